"""Every built-in attack with settings that take no time, and variants that compute with other tensors."""

from __future__ import annotations

SPECS = [
    "noise",
    "fgsm",
    "pgd[steps=2]",
    "mifgsm[steps=2]",
    "metric_fgsm",
    "metric_ifgsm[steps=2,guides=training]",
    "metric_ifgsm[steps=2,guides=gallery]",
    "metric_ifgsm[steps=2,restarts=2,diversity=0.9,smoothing=5]",
    "metric_mifgsm[steps=2,momentum=1,nesterov=true]",
    "sma[steps=2]",
    "fna[steps=2,pull=3,guides=gallery]",
    "odfa[steps=2]",
    "lta[steps=2]",
    "square[queries=4]",
    "square[queries=4,feedback=ranking]",
    "simba[queries=4]",
    "simba[queries=4,feedback=ranking,basis=pixel]",
    "uap[evaluations=48,batch=12]",
    "uap[loss=list,evaluations=48,batch=12]",
    "uap[update=pooled,starts=2,evaluations=96,batch=12]",
    "deepfool_uap[evaluations=48]",
    "cmps[evaluations=48,batch=6]",
    "muap[evaluations=48,batch=12]",
    "mis_ranking[evaluations=48,batch=12,width=4,blocks=1]",
    "fsam_uap[evaluations=360,batch=12,hinge=soft,module_steps=2,stages=stem,level=feature]",
    "fsam_uap[reading=ranking,hinge=soft,evaluations=360,batch=12,module_steps=2,stages=stem]",
]
