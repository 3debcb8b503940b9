"""Every research script starts, every recipe can be loaded, and run.sh names steps and options that exist."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from sentence_transformers_echo.training import Recipe

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "research" / "default_model"
SCRIPTS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "research").rglob("*.py")
    if "ArgumentParser" in path.read_text(encoding="utf-8")
)
RECIPES = sorted([*FOLDER.glob("step_*.yaml"), *(ROOT / "research" / "experiments").glob("*.yaml")])


def help_of(script, monkeypatch, capsys):
    """What ``python -m SCRIPT --help`` prints, in this process, which has imported torch already."""
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    monkeypatch.delitem(sys.modules, script, raising=False)  # another script may have imported it
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module(script, run_name="__main__")
    return capsys.readouterr().out


def test_there_are_scripts_and_recipes():
    assert len(SCRIPTS) >= 9
    assert len(RECIPES) == 5


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_shows_its_help(script, monkeypatch, capsys):
    assert f"python -m {script.removesuffix('.__main__')}" in help_of(script, monkeypatch, capsys)


@pytest.mark.parametrize("script", [script for script in SCRIPTS if ".experiments." in script])
def test_an_experiment_says_date_question_and_answer_first(script, monkeypatch, capsys):
    said = help_of(script, monkeypatch, capsys).split("\n\n")
    assert re.match(r"20\d\d-\d\d-\d\d.*\?", said[1], re.DOTALL)
    assert "research/log.md" in said[2]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_can_be_loaded(path):
    recipe = Recipe.load(path)
    assert recipe.teacher == "sentence-transformers/all-mpnet-base-v2"
    assert recipe.echo_config.templates[0].text == "{text}\n{text}"


def test_run_sh_names_each_step_once_in_their_order():
    text = (FOLDER / "run.sh").read_text(encoding="utf-8")
    named = re.findall(r"^step \S+ +(?:make|train) (step_\d\w+)", text, re.MULTILINE)
    steps = sorted((path.stem for path in FOLDER.glob("step_*")), key=lambda stem: int(stem.split("_")[1]))
    assert list(dict.fromkeys(named)) == steps


def test_run_sh_gives_options_that_its_steps_have(monkeypatch, capsys):
    text = (FOLDER / "run.sh").read_text(encoding="utf-8").replace("\\\n", " ")
    calls = re.findall(r"^step \S+ +make (step_\d\w+)(.*)$", text, re.MULTILINE)
    given = {(script, option) for script, rest in calls for option in re.findall(r"--[\w-]+", rest)}
    assert ("step_8_rank_on_gpu", "--seconds") in given
    for script, option in sorted(given):
        assert option in help_of(f"research.default_model.{script}", monkeypatch, capsys), script


def test_run_sh_without_data_says_how_it_is_called():
    done = subprocess.run(["bash", str(FOLDER / "run.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "run.sh DATA [WORK]" in done.stdout
