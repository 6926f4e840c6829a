# Makes the fixture of the gate again: weights of a small victim, and the baseline of attacks on it. Run it from the
# root of the repository, when a change is meant to move what is measured and vbench check --update is not enough.
set -eu
here=tests/gate
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
vbench data synth --layout sysu --out "$data/set" --ids 150 --test-ids 24 --seed 3 --size 48x24
vbench train --dataset sysu --root "$data/set" --victim "agw[width=0.125]" --size 48x24 --out $here/agw.safetensors --no-resume
vbench baseline --dataset sysu --root "$data/set" --victim agw --weights $here/agw.safetensors --eps 16/255 --seeds 20 --force \
    --attack noise --attack fgsm --attack pgd --attack metric_ifgsm --attack odfa --attack "square[queries=50]" \
    --attack "uap[evaluations=1600,batch=16]" --attack "fsam_uap[preset=strong,fsam=true,evaluations=3200]" \
    --out $here/baseline.json
