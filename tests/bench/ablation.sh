# What makes a universal attack strong: the zoo on every victim, the ingredients of fsam_uap one by one, larger
# images, and transfer. Every fit has 6,400 gradient evaluations; both directions, three seeds (or those in SEEDS).
# Records land in
# runs/ablation; what is there already is not run again. The archives in docs/ablation and the tables of
# docs/ablation.md are made from them.
set -eu
out=runs/ablation
seeds=""
for seed in ${SEEDS:-0 1 2}; do
    seeds="$seeds --seed $seed"
done
both="--protocol sysu/all/single/ir2vis/seed10 --protocol sysu/all/single/vis2ir/seed10 --set evaluations=6400"
strong="fsam_uap[preset=strong"

# shellcheck disable=SC2086
vbench run $both $seeds --runs $out/zoo --victim all --attack "uap[preset=v1]" \
    --attack "uap[preset=v1,batch=16]" --attack "uap[preset=v1,loss=cross_entropy,batch=16]" \
    --attack "cmps[preset=v1]" --attack "$strong]"

rows=""
for change in "" ,starts=1 ,votes=batch ,identity=false ,aqal=false ,reading=quadruple,margin=2 ,fsam=true \
    ,sfm=true ,fsam=true,sfm=true ,fsam=true,sfm=true,modules=joint ,fsam=true,mask_start=0.6 \
    ,fsam=true,stages=all ,fsam=true,attention=se ,identity=false,aqal_weight=-1; do
    rows="$rows --attack $strong,update=pooled$change]"
done
# shellcheck disable=SC2086
vbench run $both $seeds --runs $out/ingredients --victim agw --victim pmt --attack "$strong]" $rows \
    --attack "fsam_uap[preset=v1_paper]" --attack "uap[preset=v1,batch=16,update=pooled]"

plain="--attack uap[preset=v1] --attack uap[preset=v1,batch=16]
    --attack uap[preset=v1,loss=cross_entropy,batch=16] --attack cmps[preset=v1]"
# shellcheck disable=SC2086
vbench run $both $seeds --size 96x48 --runs $out/size_96x48 --victim agw --victim pmt $plain --attack "$strong]" \
    --attack "fsam_uap[preset=v1_paper]"
# shellcheck disable=SC2086
vbench run $both $seeds --size 128x64 --runs $out/size_128x64 --victim agw --victim ddag --victim mpanet \
    --victim pmt --victim mrcn $plain --attack "$strong]"
# shellcheck disable=SC2086
vbench run $both $seeds --size 128x64 --runs $out/size_128x64 --victim agw --attack "fsam_uap[preset=v1_paper]"

# shellcheck disable=SC2086
vbench run $both $seeds --runs $out/transfer --victim all --surrogate agw --attack "uap[preset=v1,batch=16]" \
    --attack "$strong]" --attack "$strong,fsam=true]" --attack "$strong,fsam=true,stages=all]"

for part in zoo ingredients size_96x48 size_128x64 transfer; do
    vbench report --runs $out/$part --format jsonl > docs/ablation/$part.jsonl
done
python tests/bench/ablation_page.py
