"""``vbench run --keep`` and ``vbench figure`` as a user meets them."""

from __future__ import annotations

import pytest
from fabricated import record

from vbench.records.files import read_images
from vbench.records.store import RunStore
from vbench.reports.figures import FIGURES

UAP = "uap[evaluations=960,batch=48]"


@pytest.mark.slow
def test_a_run_that_kept_nothing_is_done_again_once_and_learns_nothing_anew(
    small, vbench, tmp_path, monkeypatch
):
    runs = tmp_path / "runs"
    base = ["run", *(part for part in small.arguments(runs) if part != "--quiet"), "--attack", UAP]
    vbench(*base)
    (known,) = RunStore(runs).read_all().records
    monkeypatch.setattr("vbench.attacks.uap.UAP.fit", None)
    said = vbench(*base, "--keep", "images").stderr
    assert f"found {RunStore(runs).path(known)}, which keeps no images: running again" in said
    (again,) = RunStore(runs).read_all().records
    assert (again.id, again.adversarial, again.fit_log) == (known.id, known.adversarial, known.fit_log)
    assert "running again" not in vbench(*base, "--keep", "images").stderr
    assert "keeps no embeddings: running again" in vbench(*base, "--keep", "embeddings").stderr
    (last,) = RunStore(runs).read_all().records
    assert read_images(runs, last).meta.created == last.created, "what was kept before is kept anew"
    kept = {path.name for path in (runs / "kept" / last.id).iterdir()}
    assert kept == {"embeddings.safetensors", "images.safetensors"}


@pytest.mark.slow
def test_every_figure_is_written_in_the_format_that_its_name_says(small, vbench, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    base = ["run", *small.arguments(runs), "--attack", "noise", "--keep", "embeddings,images"]
    vbench(*base)
    vbench(*base, "--attack", "metric_fgsm", "--eps", "4/255")
    chosen = next(one for one in RunStore(runs).read_all().records if one.label == "metric_fgsm")
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for number, entry in enumerate(FIGURES.values()):
        if entry.name == "transfer":
            continue
        ending = list(starts)[number % 3]
        path = tmp_path / f"{entry.name}.{ending}"
        one = [] if entry.needs == "records" else ["--run", chosen.id[:6]]
        assert vbench("figure", entry.name, "--runs", runs, "--out", path, *one).stdout.strip() == str(path)
        assert path.read_bytes().startswith(starts[ending])
    monkeypatch.chdir(tmp_path)
    assert vbench("figure", "cmc", "--runs", runs, "--format", "pdf").stdout == "cmc.pdf\n"
    assert (tmp_path / "cmc.pdf").read_bytes().startswith(b"%PDF")
    first = (tmp_path / "cmc.pdf").read_bytes()
    vbench("figure", "cmc", "--runs", runs, "--out", "again.pdf", "--where", "eps=8/255")
    assert (tmp_path / "again.pdf").read_bytes() != first, "--where chooses"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("tsn", "did you mean 'tsne'"),
        ("cmc --run zzz", "no run 'zzz'"),
        ("cmc --where atack=uap", "did you mean 'attack'"),
        ("cmc --out x.jpg", "does not end in .png, .svg or .pdf"),
        ("cmc --out x.svg --format pdf", "x.svg does not end in .pdf"),
        ("cmc --format pgn", "did you mean 'png'"),
        ("cmc --width ful", "did you mean 'full'"),
        ("cost --metric rank1", "unknown metric 'rank1'"),
        ("transfer", "vbench sweep transfer"),
        ("eps", "two budgets"),
        ("strips", "kept no images; this does: vbench run --dataset"),
        ("tsne --query 1", "no query to choose"),
        ("cmc --label x=y", "unknown name of --label 'x'; known: agw, uap\n"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_exit_code_2(vbench, tmp_path, arguments, message):
    RunStore(tmp_path).write(record())
    done = vbench("figure", *arguments.split(), "--runs", tmp_path, expect=2)
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_damaged_kept_file_is_one_line(small, vbench, tmp_path):
    runs = tmp_path / "runs"
    vbench("run", *small.arguments(runs), "--attack", "noise", "--keep", "images")
    (path,) = runs.glob("kept/*/images.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    done = vbench("figure", "strips", "--runs", runs, expect=2)
    assert f"{path} is not what vbench run --keep wrote" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_cannot_be_kept_is_refused_before_any_work(small, vbench, tmp_path):
    done = vbench("run", *small.arguments(tmp_path), "--attack", "noise", "--keep", "imags", expect=2)
    assert "did you mean 'images'" in done.stderr


def test_figures_are_listed(vbench):
    listed = vbench("list", "figures").stdout
    assert all(name in listed for name in FIGURES)
    assert "attacks:" in vbench("list").stdout


def test_the_caption_of_panels_that_share_no_fact_is_the_title_alone(vbench, tmp_path):
    for more in ({}, {"eps": "4/255", "protocol": "sysu/indoor/single/vis2ir/seed10", "victim": "caj"}):
        RunStore(tmp_path / "runs").write(record(**more))
    done = vbench("figure", "cmc", "--runs", tmp_path / "runs", "--out", tmp_path / "a.png")
    assert "caption: CMC before and after attacks\n" in done.stderr
