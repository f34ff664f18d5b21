from pathlib import Path
from xml.etree import ElementTree

from bench import plots
from bench.statistics import Outcome, Part

SVG = "{http://www.w3.org/2000/svg}"


def test_each_figure_has_a_picture_with_a_dot_for_each_pair(tmp_path: Path) -> None:
    good = Part("rate <of> jobs", [3.0, 3.2, 3.1], [1.0, 1.02, 0.97], target=3, at_least=True)
    bad = Part("p99", [1.5], [1.0], target=1.1, at_least=False)

    plots.write({"drain": Outcome([good, bad], "ratio")}, tmp_path)

    [file] = tmp_path.iterdir()
    assert file.name == "drain.svg"
    picture = ElementTree.parse(file).getroot()
    dots = picture.findall(f"{SVG}circle")
    assert [dot.get("fill") for dot in dots] == [plots.MET] * 3 + [plots.MISSED]
    told = [text.text for text in picture.findall(f"{SVG}text")]
    assert "rate <of> jobs: 3.1, to be at least 3" in told
    assert "p99: 1.5, to be at most 1.1" in told


def test_what_is_reported_only_has_no_target_in_its_picture() -> None:
    part = Part("effects lost", [0], [], target=None, at_least=False)

    picture = ElementTree.fromstring(plots.svg("killed", Outcome([part], "effects")))

    told = [text.text for text in picture.findall(f"{SVG}text")]
    assert told == ["killed: effects", "effects lost: 0, reported", "0"]
    assert [line for line in picture.findall(f"{SVG}line") if line.get("stroke-dasharray")] == []
