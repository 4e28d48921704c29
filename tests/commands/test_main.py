"""The command line: every command and flag is known here, answers are quick, mistakes are sentences with code 2."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fixture_types import AsArguments, MakePictures
from PIL import Image
from small_models import small

from convnext.commands.main import main, make_parser
from convnext.pretrained import save_weights
from convnext.training.log import read

COMMANDS = {
    "models": {"--form", "--json"},
    "check": {"data", "--form", "--json", "--labels"},
    "train": {"data", "--recipe", "--model", "--weights", "--out", "--epochs", "--minutes", "--batch-size",
              "--image-size", "--precision", "--set", "--labels", "--val-fraction", "--folds", "--seed", "--nproc",
              "--resume", "--no-report"},
    "pretrain": {"--model", "--out", "--epochs", "--minutes", "--batch-size", "--set", "--seed", "--nproc", "--resume"},
    "evaluate": {"checkpoint", "data", "--split", "--labels", "--flip", "--crops", "--batch-size",
                 "--test-mode", "--precision", "--per-class", "--form", "--json", "--csv"},
    "import-yolo": {"data", "--out"},
    "predict": {"checkpoint", "images", "--top", "--score", "--out", "--test-mode", "--precision", "--form",
                "--json", "--csv"},
    "convert": {"source", "target", "--naming", "--model", "--ema"},
    "bench": {"names", "--table", "--image-size", "--no-speed", "--plot", "--form"},
    "robustness": {"checkpoint", "--val", "--a", "--r", "--sketch", "--v2", "--c", "--c-bar", "--real-labels",
                   "--partial", "--corrupt", "--out", "--corrupted", "--corruptions", "--severities", "--frost",
                   "--seed", "--batch-size", "--precision", "--form"},
    "roadmap": {"what"},
    "doctor": {"--form", "--json"},
}  # fmt: skip
ROADMAP = {
    "show": {"--regime", "--stem-norm", "--no-conv-bias", "--layer-scale", "--form"},
    "train": {"data", "--recipe", "--steps", "--seeds", "--epochs", "--set", "--out", "--form"},
    "plot": {"sweep", "--regime", "--out"},
}
ALIASES = {"-h", "--help", "-m", "-b", "--finetune", "--output-dir", "--img-size", "--imgsz", "--no-ema"}


def run(*words: str, cwd: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "convnext", *words]
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=200, check=False)


def test_the_commands_and_flags_are_these_and_no_others() -> None:
    commands = subcommands(make_parser())
    assert {name: words_of(parser) for name, parser in commands.items()} == COMMANDS
    assert {name: words_of(parser) for name, parser in subcommands(commands["roadmap"]).items()} == ROADMAP


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (sub,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(sub.choices)


def words_of(parser: argparse.ArgumentParser) -> set[str]:
    return {word for action in parser._actions for word in (action.option_strings or [action.dest])} - ALIASES


@pytest.mark.parametrize("words", [["--help"], ["models"], ["train", "--help"]])
def test_help_and_models_answer_without_torch(words: list[str]) -> None:
    start = "import sys\nfrom convnext.commands.main import main\n"
    code = f"{start}try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
    code += "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_models_lists_every_size_with_the_papers_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    for expected in (
        "28,589,128",
        "350,196,968",
        "4.456",
        "60.921",
        "convnext_isotropic_large",
        "in22k_ft_in1k_384",
        "cascade_mask_rcnn_convnext_xlarge_22k_3x",
        "55.2",
    ):
        assert expected in text
    main(["models", "--json"])
    rows = json.loads(capsys.readouterr().out)
    main(["models", "--form", "csv"])
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["name"], int(row["parameters"])) for row in table] == [(r["name"], r["parameters"]) for r in rows]
    assert table[0]["depths"] == " ".join(map(str, rows[0]["depths"]))
    assert len(rows) == 12
    assert all(row["parameters"] > 3e6 for row in rows)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "nowhere"], "nowhere"),
        (["train", "--set", "optim.lrr=1"], "did you mean 'optim.lr'"),
        (["train", "--set", "mixup"], "not of the form field=value"),
        (["train", "--set", "mixup=0.2"], "did you mean 'augment.mixup'"),
        (["train", "--batch-size", "many"], "batch_size='many' is not a valid int"),
        (["train", "--epochs", "-1"], "must be positive"),
        (["train", "--epochs", "2", "--set", "epochs=1"], "epochs is given twice, as 2.0 and by --set epochs=1"),
        (["train", "--precision", "bf16", "--set", "precision=fp32"], "precision is given twice"),
        (["train", "--recipe", "imagnet1k/tiny"], "imagenet1k/tiny"),
        (["train", "--model", "convnext_tinny"], "convnext_tiny"),
        (["train", "--recipe", "finetune"], "--weights"),
        (["train", "--resume"], "--out"),
        (["train", "--nproc", "0"], "at least 1"),
        (["check", "nowhere"], "nowhere"),
        (["evaluate", "missing.safetensors"], "missing.safetensors"),
        (["predict", "missing.safetensors", "missing.png"], "nothing found at missing.png"),
        (["convert", "missing.pth", "out.safetensors", "--naming", "timm"], "missing.pth"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith(f"convnext {words[0]}: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_an_unknown_flag_is_argparses_exit_code_2() -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--eppochs", "3"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the built-in digits, made by the command line as a user would."""
    folder = tmp_path_factory.mktemp("cli")
    done = run("train", "--epochs", "1", "--out", "run", "--set", "precision=fp32", cwd=folder)
    assert done.returncode == 0, done.stderr
    for expected in (
        "digits",
        "classes: '0', '1', ",
        "1.1 M",
        "optim.lr = ",
        "run folder: run",
        "logistic regression",
        "report",
    ):
        assert expected in done.stdout
    assert "\r" not in done.stdout  # no progress bar where there is no terminal
    return folder / "run"


def test_a_run_is_not_overwritten(trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    done = run("train", "--epochs", "1", "--out", str(trained))
    assert done.returncode == 2
    assert "exists and is not empty" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_resuming_a_finished_run_says_how_it_ended(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", "--out", str(trained)]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{trained} is finished, at step ")
    assert any(line.startswith("best top1") for line in rest)
    longer = shlex.split(first.partition("A longer run is a new one: convnext ")[2])
    assert main([*longer, "--out", str(trained.parent / "longer"), "--no-report"]) == 0
    steps = [read(run / "log.jsonl")[-1]["step"] for run in (trained, trained.parent / "longer")]
    assert steps[1] == 2 * steps[0]
    assert main(["train", "--resume", "--out", str(trained), "--epochs", "9"]) == 2
    assert "keeps its recipe" in capsys.readouterr().err


def test_evaluate_prints_accuracy_as_text_and_json(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(trained / "model.safetensors")
    assert main(["evaluate", model]) == 0
    assert "top1" in capsys.readouterr().out
    assert main(["evaluate", model, "--json", "--flip", "--crops", "5"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["count"] == 360
    assert 0 <= result["top1"] <= result["top5"] <= 100
    assert main(["evaluate", model, "--form", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("| top1 | top1_low | top1_high | ")


def test_evaluate_gives_intervals_and_classes(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(trained / "model.safetensors")
    assert main(["evaluate", model, "--json", "--per-class"]) == 0
    result = json.loads(capsys.readouterr().out)
    for name in ("top1", "top5", "mean_class_accuracy", "loss"):
        low, high = result["intervals"][name]
        assert low <= result[name] <= high
    assert [row["class"] for row in result["classes"]] == list("0123456789")
    assert sum(row["support"] for row in result["classes"]) == 360
    assert main(["evaluate", model, "--per-class"]) == 0
    out = capsys.readouterr().out
    assert "   95 % interval " in out
    assert "class  support  precision  recall" in out
    assert main(["evaluate", model, "--per-class", "--form", "csv"]) == 0
    assert capsys.readouterr().out.startswith("class,support,precision,recall,f1\n0,")


def test_predict_takes_files_folders_patterns_and_standard_input(
    trained: Path, pictures: MakePictures, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = str(trained / "model.safetensors"), pictures(size=8) / "val"
    one = next(folder.rglob("*.png"))
    (folder / "class 0" / "broken.png").write_bytes(b"no picture")
    assert main(["predict", model, str(one), "--top", "3"]) == 0
    assert capsys.readouterr().out.count("%") == 3
    (folder / "phone.heic").touch()
    assert main(["predict", model, str(folder), "--json"]) == 0
    said = capsys.readouterr()
    assert "1 of 9 files are left out: 1 .heic; convert .heic" in said.err
    assert "1 of 8 pictures could not be read; the first: " in said.err
    rows = json.loads(said.out)
    assert len(rows) == 8
    assert [bool(row["error"]) for row in rows].count(True) == 1
    assert all(row["top"][0]["class"] in "0123456789" for row in rows if not row["error"])
    assert main(["predict", model, str(folder / "*" / "0*.png"), "--csv"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["rank"] for row in table} == {"1", "2", "3", "4", "5"}
    for places, count in ((["-"], 1), ([str(one), "-"], 2)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{one}\n"))
        assert main(["predict", model, *places]) == 0
        assert capsys.readouterr().out.count(one.name) == count


def test_names_that_are_no_text_and_names_of_several_lines_are_printed(trained: Path, tmp_path: Path) -> None:
    model, digit = trained / "model.safetensors", Image.new("RGB", (8, 8))
    odd = [os.fsencode(tmp_path) + b"/odd\xff.png", os.fsencode(tmp_path) + b"/two\nlines.png"]
    for name in odd:
        with open(name, "wb") as handle:
            digit.save(handle, "png")
    command: list[str | bytes] = [sys.executable, "-m", "convnext", "predict", str(model), "-"]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    named: list[str | bytes] = [*command[:-1], *odd]
    for words, lines in (([*command], 1), (named, 2), ([*named, "--csv"], 16)):
        done = subprocess.run(words, input=odd[0], capture_output=True, env=strict, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        assert b"odd" in done.stdout
        assert done.stdout.count(b"\n") == lines


def test_predict_of_nothing_but_broken_files_fails(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"")
    assert main(["predict", str(trained / "model.safetensors"), str(tmp_path / "broken.png")]) == 2


@pytest.mark.parametrize("naming", ["timm", "torchvision", "transformers", "mmpretrain"])
def test_convert_there_and_back(trained: Path, tmp_path: Path, naming: str, capsys: pytest.CaptureFixture[str]) -> None:
    source, target, back = trained / "model.safetensors", tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    assert main(["convert", str(source), str(target), "--naming", naming]) == 0
    assert naming in capsys.readouterr().out
    assert main(["convert", str(target), str(back), "--naming", "official"]) == 0
    from safetensors.torch import load_file

    one, other = load_file(source), load_file(back)
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)


def test_doctor_names_machine_versions_and_precision(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for expected in ("torch", "cpu", "precision", "timm", "loader processes"):
        assert expected in text
    assert main(["doctor", "--json"]) == 0
    facts = {row["fact"]: row["value"] for row in json.loads(capsys.readouterr().out)}
    assert facts["torch"]


@pytest.mark.parametrize(("form", "begins"), [("csv", "severity,kind,path,detail"), ("markdown", "| severity | kind")])
def test_findings_are_a_table_too(
    form: str, begins: str, pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures()
    (folder / "train" / "class 0" / "broken.png").write_bytes(b"")
    assert main(["check", str(folder), "--form", form]) == 2
    printed = capsys.readouterr().out
    assert printed.startswith(begins)
    assert "broken.png" in printed


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m convnext models | head -n 1", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["models"]])
def test_help_and_models_take_less_than_a_second(words: list[str]) -> None:
    took = []
    for _ in range(5):
        began = time.perf_counter()
        run(*words)
        took.append(time.perf_counter() - began)
    assert min(took) < 1.0


def test_one_command_runs_under_torchrun_as_it_is(
    pictures: MakePictures, tiny: dict[str, Any], as_arguments: AsArguments, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "convnext"]
    words = ["train", str(pictures()), "--out", str(tmp_path / "run"), "--no-report", *as_arguments(tiny)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best top1") == 1


def test_an_output_that_is_full_is_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "convnext", "models", "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("convnext models: the output cannot be written (No space left on device)")
    assert done.stderr.count("\n") == 1


def test_a_score_is_refused_where_it_means_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    save_weights(small(), tmp_path / "model.safetensors")
    assert main(["predict", str(tmp_path / "model.safetensors"), str(tmp_path / "a.png"), "--score", "0.5"]) == 2
    assert "is no detector; leave out --score" in capsys.readouterr().err


def test_an_interrupted_run_is_told_with_its_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("convnext.api.train", interrupted)
    assert main(["train", "digits", "--out", "runs/my run"]) == 130
    assert "continues with convnext train --resume --out 'runs/my run'" in capsys.readouterr().err
