from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from ssae_debias.data import PROFESSIONS, load_bias_in_bios, load_table, task_from_frame
from ssae_debias.files import DamagedFileError


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "text": [f"text {i}" for i in range(40)],
            "job": ["surgeon", "nurse", "poet", "nurse"] * 10,
            "gender": ["M", "F", "F", "M"] * 10,
            "part": ["train", "train", "validation", "test"] * 10,
        }
    )


def write(frame: pd.DataFrame, path) -> None:
    match path.suffix:
        case ".parquet":
            frame.to_parquet(path)
        case ".csv":
            frame.to_csv(path, index=False)
        case ".tsv":
            frame.to_csv(path, index=False, sep="\t")
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
def test_every_format_gives_the_same_task(frame, tmp_path, suffix):
    frame["year"] = [1988, 1990, 1988, 1990] * 10
    frame.loc[0, "text"] = "None"
    write(frame, tmp_path / f"jobs{suffix}")
    task = load_table(
        tmp_path / f"jobs{suffix}", label="job", attribute="year", split="part", labels=["surgeon", "nurse"]
    )
    assert task.name == "jobs"
    assert task.texts[:2] == ("None", "text 1")
    assert task.label_names == ("surgeon", "nurse")
    assert task.attribute_names == ("1988", "1990")
    assert len(task) == 30, "poets are left out"
    assert task.y.tolist() == [0, 1, 1] * 10
    assert task.sensitive_features.tolist() == [0, 1, 1] * 10


def test_validation_is_dev(frame):
    task = task_from_frame(frame, label="job", attribute="gender", split="part")
    assert set(task.split) == {"train", "dev", "test"}
    assert task.label_names == ("nurse", "poet", "surgeon")


def test_an_empty_text_in_a_csv_file_is_counted_and_not_a_hole(frame, tmp_path):
    frame.loc[3, "text"] = ""
    write(frame, tmp_path / "jobs.csv")
    with pytest.warns(UserWarning, match="1 of 40"):
        task = load_table(tmp_path / "jobs.csv", label="job", split="part")
    assert task.texts[3] == ""
    assert task.attribute_names == ("all",)


def test_the_split_is_stratified_seeded_and_sixty_twenty_twenty(frame):
    tasks = [task_from_frame(frame, label="job", attribute="gender", random_state=seed) for seed in (0, 0, 1)]
    assert tasks[0].split.tolist() == tasks[1].split.tolist() != tasks[2].split.tolist()
    counts = tasks[0].cell_counts()
    assert counts.loc[("nurse", "F")].tolist() == [6, 2, 2]


def test_the_missing_attribute_policy(frame):
    frame.loc[frame.index[:4], "gender"] = None
    with pytest.raises(ValueError, match=r"column 'gender' is missing in 4 of 40 rows"):
        task_from_frame(frame, label="job", attribute="gender")
    dropped = task_from_frame(frame, label="job", attribute="gender", missing="drop")
    assert len(dropped) == 36
    assert dropped.texts[0] == "text 4"
    kept = task_from_frame(frame, label="job", attribute="gender", attributes=("M", "F"), missing="keep")
    assert kept.attribute_names == ("M", "F", "missing")
    assert kept.sensitive_features[:4].tolist() == [2, 2, 2, 2]


def test_a_hole_in_rows_that_are_left_out_is_no_hole(frame):
    frame.loc[frame["job"] == "poet", "gender"] = None
    task = task_from_frame(frame, label="job", attribute="gender", labels=("surgeon", "nurse"))
    assert len(task) == 30


def test_whole_floats_and_numbers_are_the_same_category(frame):
    frame["id"] = np.where(frame["job"] == "nurse", 13.0, 2.0)
    task = task_from_frame(frame, label="id", labels=(13, "2"))
    assert task.label_names == ("13", "2")
    assert task_from_frame(frame, label="id").label_names == ("2", "13"), "sorted as numbers"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": "jop"}, r"no column 'jop'; nearest is 'job'\. The table has text, job, gender, part"),
        ({"label": "job", "labels": ("surgeon", "nurze")}, "no value 'nurze'; nearest is 'nurse'"),
        ({"label": "job", "labels": ("nurse",)}, "at least two"),
        ({"label": "job", "split": "gender"}, "expected train, dev"),
        ({"label": "job", "attributes": ("M", "F")}, "give attribute="),
    ],
)
def test_what_a_table_lacks_is_named(frame, arguments, message):
    with pytest.raises(ValueError, match=message):
        task_from_frame(frame, **arguments)


def test_missing_labels_and_texts(frame):
    broken = frame.copy()
    broken.loc[1, "job"] = None
    with pytest.raises(ValueError, match="'job' is missing in 1 of 40"):
        task_from_frame(broken, label="job")
    broken = frame.copy()
    broken.loc[1, "text"] = None
    with pytest.raises(TypeError, match="position 1"):
        task_from_frame(broken, label="job")
    with pytest.raises(TypeError, match="DataFrame"):
        task_from_frame({"text": ["a"]}, label="job")


def test_a_text_in_two_splits_is_counted(frame):
    frame.loc[3, "text"] = "text 0"
    with pytest.warns(UserWarning, match="1 texts stand in more than one split"):
        task_from_frame(frame, label="job", split="part")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file at"):
        load_table(tmp_path / "none.csv", label="job")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(DamagedFileError, match="cannot be read as parquet"):
        load_table(tmp_path / "broken.parquet", label="job")
    (tmp_path / "broken.jsonl").write_text('{"text": "a"\n')
    with pytest.raises(DamagedFileError, match="jsonl"):
        load_table(tmp_path / "broken.jsonl", label="job")
    (tmp_path / "table.xlsx").write_text("")
    with pytest.raises(ValueError, match=r"expected \.parquet"):
        load_table(tmp_path / "table.xlsx", label="job")


@pytest.fixture(params=["with the hub's card", "without a card"])
def hub_copy(request, tmp_path):
    """A local directory laid out like LabHC/bias_in_bios."""
    folder = tmp_path / "bias_in_bios"
    (folder / "data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    ids = [PROFESSIONS.index(name) for name in ("professor", "nurse", "poet")]
    for split, n in (("train", 60), ("dev", 30), ("test", 30)):
        pd.DataFrame(
            {
                "hard_text": [f"{split} text {i}" for i in range(n)],
                "profession": np.array(ids * n)[:n],
                "gender": rng.integers(0, 2, n),
            }
        ).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    if request.param == "with the hub's card":
        files = "".join(
            f"  - split: {split}\n    path: data/{split}-*\n" for split in ("train", "test", "dev")
        )
        (folder / "README.md").write_text(
            f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n"
        )
    return folder


def test_bias_in_bios_from_a_local_directory(hub_copy, tmp_path):
    pytest.importorskip("datasets", reason='needs datasets: pip install "ssae-debias[hub]"')
    task = load_bias_in_bios(path=hub_copy, cache_dir=tmp_path / "cache")
    assert task.label_names == ("professor", "nurse")
    assert task.attribute_names == ("M", "F")
    assert task.cell_counts().sum().to_dict() == {"train": 40, "dev": 20, "test": 20}
    train = pd.read_parquet(hub_copy / "data" / "train-00000-of-00001.parquet")
    nurses = train[train["profession"] == 13]
    rows = task.rows("train")
    assert [task.texts[i] for i in rows if task.y[i] == 1] == nurses["hard_text"].tolist()
    assert [task.sensitive_features[i] for i in rows if task.y[i] == 1] == nurses["gender"].tolist()


def test_an_unreachable_data_set_says_so(tmp_path):
    pytest.importorskip("datasets", reason='needs datasets: pip install "ssae-debias[hub]"')
    with pytest.raises(OSError, match="neither a local directory with data files nor reachable"):
        load_bias_in_bios(path=str(tmp_path / "nowhere"), cache_dir=tmp_path / "cache")


def test_datasets_is_only_asked_for_when_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"ssae-debias\[hub\]"):
        load_bias_in_bios()


def test_professions_are_checked_before_anything_is_fetched():
    assert len(PROFESSIONS) == 28
    assert (PROFESSIONS[13], PROFESSIONS[21], PROFESSIONS[25]) == ("nurse", "professor", "surgeon")
    with pytest.raises(ValueError, match="nearest is 'surgeon'"):
        load_bias_in_bios(("surgeo", "nurse"))
    with pytest.raises(ValueError, match="two or more"):
        load_bias_in_bios(("nurse", "nurse"))
