# The universal attacks at an equal number of gradient evaluations: three controls, the eight rows of the
# published ablation at pixel level, and the rows that have modules at feature level. Both directions, three
# seeds (or those in SEEDS), and one attack whose modules need not keep identities. Records land in
# runs/study; what is there already is not run again.
set -eu
rows=""
for switches in \
    fsam=false,sfm=false,aqal=false sfm=false,aqal=false fsam=false,aqal=false fsam=false,sfm=false \
    aqal=false sfm=false fsam=false; do
    rows="$rows --attack fsam_uap[$switches]"
done
for switches in sfm=false,aqal=false fsam=false,aqal=false aqal=false sfm=false fsam=false; do
    rows="$rows --attack fsam_uap[level=feature,modules=joint,$switches]"
done
seeds=""
for seed in ${SEEDS:-0 1 2}; do
    seeds="$seeds --seed $seed"
done
# shellcheck disable=SC2086
vbench run --victim agw --runs runs/study \
    --protocol sysu/all/single/ir2vis/seed10 --protocol sysu/all/single/vis2ir/seed10 \
    --attack noise --attack "uap[preset=v1]" --attack "uap[preset=v1,loss=cross_entropy]" --attack "fsam_uap[attention=identity]" \
    --attack fsam_uap --attack "fsam_uap[level=feature,modules=joint]" \
    --attack "fsam_uap[level=feature,modules=joint,keep_weight=0,stages=all]" $rows $seeds "$@"
