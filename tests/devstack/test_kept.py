from pathlib import Path

from devstack import kept


def test_credentials_are_made_once_and_are_nobody_elses(tmp_path: Path) -> None:
    file = tmp_path / "data" / "kept.json"
    first = kept.load(file)
    assert kept.load(file) == first
    assert file.stat().st_mode & 0o777 == 0o600
    passwords = [first["staff"]["password"]]
    for organisation in first["organisations"]:
        passwords += [organisation["owner"]["password"], organisation["member"]["password"]]
    assert len(set(passwords)) == 5
