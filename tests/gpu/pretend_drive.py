"""Drive vbench on the pretend GPU. usage: drive.py PART [more]; parts: victims attacks library train cli"""

import os
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

ROOT = Path(os.environ.get("PRETEND_ROOT") or tempfile.mkdtemp(prefix="vbench-pretend-"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ.setdefault("VBENCH_CACHE", str(ROOT / "cache"))
import torch

torch.set_num_threads(1)
import pretend_device as P

from vbench.attacks.registry import attacks
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality, Side
from vbench.data import open_dataset
from vbench.data.synthetic import write_dataset
from vbench.records.spec import DataSpec, Given, ModelSpec, RunSpec, Setup, models, run_specs
from vbench.run.prepare import Opener
from vbench.run.session import Session
from vbench.victims.checkpoint import write_checkpoint
from vbench.victims.load import build_victim
from vbench.victims.registry import victims

P.RAISE = os.environ.get("RAISE", "0") == "1"
P.DETAIL = True


def data(layout="sysu", ids=12, test=5):
    out = write_dataset(layout, ROOT / f"data-{layout}", ids, 0, (64, 32), test_ids=test, quiet=True)
    return open_dataset(layout, out, None)


def weights(name, dataset, **more):
    cls = victims.load(name)
    path = ROOT / f"{name}{'-'.join(map(str, more.values()))}.safetensors"
    if not path.exists():
        v = build_victim(
            cls,
            num_classes=len(dataset.train_labels),
            device="cpu",
            generator=torch.Generator().manual_seed(1),
            **{**cls.THIN, "input_size": (64, 32), **more},
        )
        # random weights that rank above nothing; batch norms get statistics
        from vbench.victims.checkpoint import sha256_of

        write_checkpoint(
            path,
            v.state_dict(),
            {
                "victim": name,
                "options": v.describe(),
                "split": dataset.split,
                "sha256": sha256_of(v.state_dict()),
            },
        )
    return path


def report(title, since):
    print(f"== {title}: {time.perf_counter() - since:.1f}s", flush=True)


def attempt(title, work):
    t = time.perf_counter()
    before = set(P.STATS["mismatch"])
    try:
        work()
        status = "ran"
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        status = f"ERROR {type(e).__name__}: {str(e)[:300]}"
        if os.environ.get("TB"):
            traceback.print_exc()
    new = [m for m in P.STATS["mismatch"] if m not in before]
    print(f"{title:60s} {time.perf_counter() - t:6.1f}s {status}", flush=True)
    for m in new:
        print("      MISMATCH", m, flush=True)


def part_victims():
    ds = data()
    for name in victims.names():

        def work(name=name):
            from vbench.victims.load import load_victim

            v = load_victim(name, weights(name, ds), device="cuda")
            assert next(v.parameters()).device.type == "cuda" and all(
                b.device.type == "cuda" for b in v.buffers()
            ), [n for n, b in v.named_buffers() if b.device.type != "cuda"]
            x = torch.rand(4, 3, 64, 32).to("cuda")
            from vbench.victims.precision import Precision, compute_in

            for dtype in ("float32", "bfloat16", "float16"):
                for cl in (False, True):
                    compute_in(v, Precision(dtype, cl))
                    for m in Modality:
                        for edits in (
                            None,
                            {s: (lambda f: f * 1.0) for s in v.stages},
                            {v.stages[1]: (lambda f: torch.cat([f, f]))} if v.forks else None,
                        ):
                            y = x.clone().requires_grad_(True)
                            o = v(y, m, edits)
                            (g,) = torch.autograd.grad(
                                o.embedding.float().square().sum()
                                + (o.logits.float().sum() if o.logits is not None else 0),
                                y,
                            )
                            assert g.device.type == "cuda" and o.embedding.device.type == "cuda"
                            for k in o.features:
                                assert o.features[k].device.type == "cuda"
                            for k in o.parts:
                                assert o.parts[k].device.type == "cuda"

        attempt(f"victim {name}", work)


def part_options():
    ds = data()
    for name, opts in [
        ("agw", {"embedding": "pooled", "flip": True}),
        ("mmn", {"embedding": "sum"}),
        ("mmn", {"embedding": "max"}),
        ("mmn", {"embedding": "visible_middle"}),
        ("deen", {"embedding": "weighted"}),
        ("deen", {"variant": "regdb"}),
        ("mpanet", {"variant": "regdb"}),
        ("ddag", {"embedding": "neck"}),
        ("mrcn", {"place": "layer1"}),
        ("pmt", {"flip": True}),
    ]:

        def work():
            from vbench.victims.load import load_victim

            settings = {k: v for k, v in opts.items() if k in victims.load(name).SETTINGS}
            build = {k: v for k, v in opts.items() if k not in settings}
            v = load_victim(name, weights(name, ds, **build), device="cuda", **settings)
            x = torch.rand(4, 3, 64, 32).to("cuda")
            for m in Modality:
                y = x.clone().requires_grad_(True)
                o = v(y, m)
                torch.autograd.grad(o.embedding.sum(), y)

        attempt(f"victim {name} {opts}", work)


def series(
    ds,
    name,
    threat,
    runs=None,
    keep=(),
    precision="float32",
    channels_last=False,
    surrogates=(),
    surrogate_weights=(),
):
    """What does runs of one victim, given names of attacks."""
    setup = Setup(
        DataSpec("drawn", Given(ds)),
        ModelSpec("", str(weights(name, ds))),
        precision=precision,
        channels_last=channels_last,
        device="cuda",
        ignore_gates=True,
    )
    like = RunSpec(setup, "", (), threat.eps, threat.norm, threat.side.value, threat.quantize)
    turns = [models(surrogates, surrogate_weights)]

    class Series:
        def execute(self, victims, attacks, seeds, settings, perturbation=None):
            one = replace(like, perturbation=None if perturbation is None else str(perturbation))
            session = Session(runs, force=True, quiet=True, keep=keep)
            return session.run_all(run_specs(one, victims, attacks, seeds, surrogates=turns))

    return Series()


SPECS = [
    "noise",
    "noise[kind=sign]",
    "fgsm",
    "pgd[steps=2]",
    "mifgsm[steps=2]",
    "metric_fgsm",
    "metric_ifgsm[steps=2]",
    "metric_ifgsm[steps=2,guides=training]",
    "metric_ifgsm[steps=2,guides=gallery]",
    "metric_ifgsm[steps=2,restarts=2,diversity=0.9,smoothing=5]",
    "metric_mifgsm[steps=2,momentum=1,nesterov=true]",
    "metric_ifgsm[preset=original]",
    "sma[steps=2]",
    "fna[steps=2]",
    "fna[steps=2,pull=3,guides=gallery]",
    "odfa[steps=2]",
    "lta[steps=2]",
    "square[queries=4]",
    "square[queries=4,feedback=ranking]",
    "simba[queries=4]",
    "simba[queries=4,feedback=ranking,basis=pixel]",
    "uap[evaluations=96,batch=16]",
    "uap[loss=list,evaluations=96,batch=16]",
    "uap[loss=cross_entropy,evaluations=96,batch=16]",
    "uap[update=pooled,starts=2,evaluations=160,batch=16]",
    "uap[update=pooled,votes=batch,starts=1,evaluations=96,batch=16]",
    "cmps[evaluations=96,batch=8]",
    "muap[evaluations=96,batch=16]",
    "muap[evaluations=96,batch=16,smooth=0]",
    "mis_ranking[evaluations=64,batch=16,blocks=1]",
    "fsam_uap[evaluations=160,batch=16,module_steps=2]",
    "fsam_uap[preset=paper,evaluations=160,batch=16,module_steps=2,margin=5]",
    "fsam_uap[preset=strong,evaluations=96]",
    "fsam_uap[level=feature,evaluations=160,batch=16,module_steps=2]",
    "fsam_uap[level=feature,modules=joint,stages=all,evaluations=400,batch=16,module_steps=2,margin=5]",
    "fsam_uap[attention=se,evaluations=160,batch=16,module_steps=2,hinge=soft,space=features]",
    "fsam_uap[attention=eca,anchors=adversarial,evaluations=160,batch=16,module_steps=2,hinge=soft,plain_weight=1]",
    "fsam_uap[attention=identity,evaluations=160,batch=16,module_steps=2]",
    "fsam_uap[reading=ranking,hinge=soft,evaluations=160,batch=16,module_steps=2]",
]


def part_attacks(names=("agw",), only=None):
    ds = data()
    for name in names:
        for spec in SPECS:
            if only and only not in spec:
                continue
            for side, norm, eps in (
                (("query", "linf", "8/255"),)
                if name != "agw"
                else (("both", "linf", "8/255"), ("query", "l2", "1.0"))
            ):
                if norm == "l2" and not any(
                    spec.startswith(p) for p in ("noise", "metric", "sma", "fna", "odfa", "lta", "simba")
                ):
                    continue
                if norm == "l2" and ("preset" in spec):
                    continue
                if spec == "ensemble":
                    side = "query"

                def work():
                    s = series(
                        ds, name, ThreatModel(eps, norm, side), ROOT / "runs", keep=("embeddings", "images")
                    )
                    list(s.execute([name], [spec], [0], {}))

                attempt(f"{name} {spec} {side} {norm}", work)


def part_misc():
    ds = data()

    def auto():
        s = series(ds, "agw", ThreatModel(), ROOT / "runs2", precision="auto", channels_last=None)
        list(
            s.execute(
                ["agw"],
                ["pgd[steps=2]", "fsam_uap[level=feature,evaluations=160,batch=16,module_steps=2]"],
                [0],
                {},
            )
        )

    attempt("precision auto", auto)

    def transfer():
        s = series(
            ds,
            "agw",
            ThreatModel(),
            ROOT / "runs3",
            surrogates=("mmn", "pmt"),
            surrogate_weights=(weights("mmn", ds), weights("pmt", ds)),
        )
        list(
            s.execute(
                ["agw"],
                [
                    "pgd[steps=2]",
                    "uap[evaluations=96,batch=16]",
                    "mis_ranking[evaluations=64,batch=16,blocks=1]",
                    "sma[steps=2]",
                ],
                [0],
                {},
            )
        )

    attempt("transfer from mmn+pmt", transfer)

    def transfer1():
        s = series(
            ds,
            "agw",
            ThreatModel(),
            ROOT / "runs3",
            surrogates=("mmn",),
            surrogate_weights=(weights("mmn", ds),),
        )
        list(
            s.execute(["agw"], ["pgd[steps=2]", "fsam_uap[evaluations=160,batch=16,module_steps=2]"], [0], {})
        )

    attempt("transfer from mmn", transfer1)

    def ens():
        from vbench.attacks import ensemble as E
        from vbench.attacks.black_box import Square
        from vbench.attacks.bouniot import FNA, SMA
        from vbench.attacks.classification import PGD
        from vbench.attacks.uap import UAP

        E.Ensemble.members = lambda self: (
            Square(queries=3),
            UAP(evaluations=96, batch=16),
            PGD(steps=2),
            SMA(steps=2),
            FNA(steps=2),
        )
        s = series(ds, "agw", ThreatModel(), ROOT / "runs4", keep=("embeddings", "images"))
        list(s.execute(["agw"], ["ensemble"], [0], {}))

    attempt("ensemble", ens)

    def replay():
        path = next((ROOT / "runs" / "perturbations").glob("uap-*.safetensors"))
        s = series(ds, "agw", ThreatModel(), None)
        list(s.execute(["agw"], ["uap"], [0], {}, perturbation=path))

    attempt("replay", replay)

    def replay2():
        path = next((ROOT / "runs" / "perturbations").glob("mis_ranking-*.safetensors"))
        s = series(ds, "agw", ThreatModel(), None)
        list(s.execute(["agw"], ["mis_ranking"], [0], {}, perturbation=path))

    attempt("replay generator", replay2)

    def audit():
        pass

    def audit2():
        from vbench.audit import attacks, victim
        from vbench.audit.evidence import Evidence

        for precision in ("float32", "bfloat16"):
            setup = Setup(
                DataSpec("drawn", Given(ds)),
                ModelSpec("agw", str(weights("agw", ds))),
                precision=precision,
                channels_last=precision != "float32",
                device="cuda",
                ignore_gates=True,
            )
            bench = Opener(setup).bench(ds, ROOT / "cache", True)
            evidence = Evidence(bench, ThreatModel(), 0)
            for probe in (*victim.PROBES, *attacks.PROBES[-2:]):
                try:
                    print(
                        "   ",
                        precision,
                        probe.name if hasattr(probe, "name") else probe,
                        str(probe.measure(evidence) if hasattr(probe, "measure") else probe.ask(evidence))[
                            :200
                        ],
                    )
                except Exception as e:
                    print("   ", precision, probe, type(e).__name__, str(e)[:200])

    attempt("audit", audit2)

    def metrics():
        from vbench.metrics import rank_embeddings, rank_metrics, ranking_distance

        g = torch.Generator().manual_seed(0)
        for sim in ("cosine", "euclidean", "dot", "dot-max", "dot-min"):
            for prot in ("sysu", "regdb", "llcm"):
                q, ga = torch.rand(30, 8, generator=g).to("cuda"), torch.rand(200, 8, generator=g).to("cuda")
                qi, gi = torch.randint(0, 4, (30,), generator=g), torch.randint(0, 4, (200,), generator=g)
                qc, gc = torch.randint(1, 7, (30,), generator=g), torch.randint(1, 7, (200,), generator=g)
                a = rank_embeddings(q, ga, qi, gi, qc, gc, similarity=sim, protocol=prot)
                b = rank_metrics(ranking_distance(q, ga, sim), qi.numpy(), gi.tolist(), qc, gc, protocol=prot)
                assert a.mAP == b.mAP
                # ties
                rank_embeddings(
                    q[:1].repeat(5, 1),
                    ga[:1].repeat(50, 1),
                    qi[:5],
                    gi[:50],
                    qc[:5],
                    gc[:50],
                    similarity=sim,
                    protocol=prot,
                )

    attempt("metrics", metrics)

    def lib_evaluate():
        import vbench
        from vbench.victims.load import load_victim

        v = load_victim("agw", weights("agw", ds), device="cuda")
        r = vbench.evaluate(v, "pgd[steps=2]", dataset=ds, ignore_gates=True, quiet=True) if True else None

    attempt("vbench.evaluate(victim on cuda)", lib_evaluate)


def part_library():
    from vbench.attacks import from_art as A
    from vbench.attacks import from_torchattacks as T

    ds = data()
    small = {
        "steps": 2,
        "n_queries": 3,
        "max_iter": 2,
        "nb_iter": 2,
        "n_restarts": 1,
        "nb_random_init": 1,
        "max_iter_": 2,
        "nb_parallel": 1,
        "binary_search_steps": 1,
        "init_eval": 2,
        "max_eval": 3,
        "init_size": 3,
        "num_trial": 2,
        "sample_size": 2,
        "curr_adv_trial": 2,
        "nb_restarts": 1,
        "max_halving": 1,
        "max_doubling": 1,
        "num_random_init": 1,
        "nb_iters": 2,
        "spsa_iters": 1,
    }
    for lib, mod in (("torchattacks", T), ("art", A)):
        for name, rule in mod.RULES.items():
            if isinstance(rule, str):
                continue
            if ONLY and ONLY not in name and lib != ONLY:
                continue
            norm = rule.norms[0]
            try:
                cls = attacks.load(f"{lib}:{name}")
            except Exception as e:
                print(lib, name, "cannot load", e)
                continue
            import dataclasses

            fields = {f.name: f.type for f in dataclasses.fields(cls)}
            given = ",".join(f"{k}={v}" for k, v in small.items() if k in fields)
            spec = f"{lib}:{name}[{given}]" if given else f"{lib}:{name}"

            def work():
                s = series(ds, "agw", ThreatModel("8/255" if norm == "linf" else "1.0", norm), None)
                run = next(iter(s.each(["agw"], [spec], [0], {})))
                from vbench.run.craft import Crafter, Plan
                from vbench.victims.embed import to_images

                bench = run.bench
                rows = slice(0, 2)
                clean = to_images(bench.pixels[Side.QUERY][rows], bench.victim)
                crafter = Crafter(bench, bench.victim, Side.QUERY, Plan(run.attack, run.threat, 0))
                out, _ = crafter.craft(clean, rows, (1, 2))
                assert out.device.type == "cuda", out.device
                assert next(bench.victim.parameters()).device.type == "cuda"

            attempt(spec[:60], work)


def part_train():
    from dataclasses import replace

    from vbench.victims.training.batches import load_train_images
    from vbench.victims.training.trainer import recipe_of, train_victim

    ds = data(ids=24) if False else data()

    def thin_victim(name):
        options = {**victims.load(name).THIN, "input_size": (64, 32)}
        classes, generator = len(ds.train_labels), torch.Generator().manual_seed(1)
        return build_victim(
            victims.load(name), num_classes=classes, device="cpu", generator=generator, **options
        )

    for name in victims.names():
        for precision in ("float32", "auto"):

            def work():
                v = thin_victim(name)
                images = load_train_images(ds, (64, 32), v.resize_filter)
                r = replace(recipe_of(v, 2), identities=4, instances=2, validation=0.3)
                out = ROOT / f"trained-{name}.safetensors"
                for f in ROOT.glob(f"trained-{name}*"):
                    f.unlink()
                train_victim(
                    v, ds, images, 0, out=out, quiet=True, device="cuda", recipe=r, precision=precision
                )
                assert next(v.parameters()).device.type == "cuda"

            attempt(f"train {name} {precision}", work)

    def resume():
        from vbench.victims.training import trainer

        v = thin_victim("agw")
        images = load_train_images(ds, (64, 32), v.resize_filter)
        r = replace(recipe_of(v, 3), identities=4, instances=2, validation=0)
        out = ROOT / "trained-resume.safetensors"
        real = trainer.save_state
        n = [0]

        def stop(*a):
            real(*a)
            n[0] += 1
            if n[0] == 1:
                raise KeyError("stop")

        trainer.save_state = stop
        try:
            train_victim(v, ds, images, 0, out=out, quiet=True, device="cuda", recipe=r)
        except KeyError:
            pass
        trainer.save_state = real
        v = build_victim(
            cls,
            num_classes=len(ds.train_labels),
            device="cpu",
            generator=torch.Generator().manual_seed(1),
            **{**cls.THIN, "input_size": (64, 32)},
        )
        res = train_victim(v, ds, images, 0, out=out, quiet=True, device="cuda", recipe=r)
        print(len(res.history))

    attempt("resume on cuda", resume)


ONLY = sys.argv[2] if len(sys.argv) > 2 else None
with P.pretend():
    for part in sys.argv[1].split(","):
        if part == "attacks":
            part_attacks(
                tuple(ONLY.split(",")) if ONLY else ("agw",), sys.argv[3] if len(sys.argv) > 3 else None
            )
        else:
            globals()[f"part_{part}"]()
print("\nmismatches:")
for m, n in P.STATS["mismatch"].most_common():
    print(n, m)
if os.environ.get("STATS"):
    for k in ("sync", "h2d", "d2h"):
        print(k)
        for m, n in P.STATS[k].most_common(60):
            print("  ", n, m)
