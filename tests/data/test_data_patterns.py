from __future__ import annotations

import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssae_debias.data import (
    ATTRIBUTE,
    LABEL,
    check_groups,
    check_patterns,
    columns_from_patterns,
    delete_patterns,
    first_sentence,
    load_table,
    read_patterns,
)

GENRES = {"comedy": r"comed(?:y|ic)", "drama": r"drama"}


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        ("He was a poet.", " He sang."),
        ("He was a poet.", "He sang."),
        ("Ann Q. Doe (b. 1953 in St. Louis, U.S.) is a poet.", " Born in Rome, she sang."),
        ("Ann (née Roe. No source) is a poet.", " She sang."),
        ("Ann (born 5 Feb. 1950) lives (with Bo.", " She sang. Alone."),
        ("Moulin Rouge! is a 2001 film.", " It won."),
        ("Who is Ann?", " A poet."),
        ('Ann is "a poet."', " She sang."),
        ("It cost 1.5 million.", " 7 people paid."),
        ("A text without a stop", ""),
        ("One sentence only.", ""),
        ("One sentence only. ", ""),
    ],
)
def test_the_first_sentence_ends_where_a_new_one_can_begin(first: str, rest: str) -> None:
    assert first_sentence(first + rest) == first


@given(st.text(max_size=80))
def test_the_first_sentence_is_how_the_text_begins(text: str) -> None:
    assert text.startswith(first_sentence(text))


def test_exactly_one_pattern_must_match_in_the_first_sentence() -> None:
    texts = ["A COMEDY film. No drama.", "A drama film.", "A comedy-drama film.", "A film. A comedy."]
    assert read_patterns(texts, GENRES) == ["comedy", "drama", None, None]
    assert read_patterns(texts, GENRES, where="text") == [None, "drama", None, "comedy"]


def test_a_name_may_have_several_patterns_and_a_further_one_keeps_rows_out() -> None:
    texts = ["Ann is a poet.", "Bo is an author.", "Cy is the wife of a poet.", "Di is an actor."]
    patterns = {"writer": ["poet", r"\bauthor\b"], "actor": "actor", "relative": "wife of"}
    assert read_patterns(texts, patterns) == ["writer", "writer", None, "actor"]


@pytest.mark.parametrize(
    ("patterns", "error", "message"),
    [
        (["comedy"], TypeError, "must map names"),
        ({}, ValueError, "holds no patterns"),
        ({"comedy": 3}, TypeError, "'comedy' must be a regular expression"),
        ({"comedy": []}, ValueError, "'comedy' has no pattern"),
        ({"comedy": "comedy", "drama": ["drama", "dr("]}, ValueError, r"'dr\(' of 'drama' is no regular"),
        ({"comedy": "x*"}, ValueError, "matches the empty text"),
        ({"comedy": r"comedy|"}, ValueError, "matches the empty text"),
    ],
)
def test_what_is_no_pattern_is_refused(patterns, error, message) -> None:
    for reads in (check_patterns, lambda given: read_patterns(["A comedy."], given)):
        with pytest.raises(error, match=message):
            reads(patterns)


def test_a_pattern_that_matches_nothing_is_named() -> None:
    with pytest.raises(ValueError, match="'western' matches none of 2 texts"):
        read_patterns(["A comedy.", "A drama."], {**GENRES, "western": "western"})
    with pytest.raises(ValueError, match="where must be 'first_sentence' or 'text', got 'title'"):
        read_patterns(["A comedy."], GENRES, where="title")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A 1999 comedy-drama film.", "A 1999 film."),
        ("It is a comedy of a comedian's dramatic life.", "It is an of a comedian's life."),
        ("A melodrama, comedy and drama film", "A film"),
        ("an actress’s dream", "a dream"),
        ("COMEDY! (comedy) Comedy", "!"),
        ("a factory in Comédie", "a factory in Comédie"),
    ],
)
def test_words_go_whole_and_the_gap_is_mended(text: str, left: str) -> None:
    assert delete_patterns([text], {**GENRES, "actor": r"\bact(?:or|ress)"})[0].strip() == left


def test_words_that_only_meet_by_a_deletion_go_too() -> None:
    patterns = {"politician": ["member of parliament", "senate"]}
    assert delete_patterns(["A member of Senate parliament spoke."], patterns) == ["A spoke."]


def test_a_match_without_a_word_is_refused() -> None:
    texts = ["A comedy film."]
    assert read_patterns(texts, {"comedy": r"(?=comedy)"}) == ["comedy"]
    for pattern in (r"(?=comedy)", r"\s"):
        with pytest.raises(ValueError, match="matches without a letter or sign"):
            delete_patterns(texts, {"comedy": pattern})


ENGLISH = "a an and or the she is film politician actor actress Actor's poet poets comedy drama , . - / ( )"
WORDS = st.sampled_from(ENGLISH.split())


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=14), st.sampled_from([" ", "", "-", "  "]))
def test_nothing_that_is_left_matches_and_nothing_is_made_up(words: list[str], joint: str) -> None:
    patterns = {"actor": r"\bact(?:or|ress)", "poet": "poet", "genre": ["comed", r"drama\b"]}
    text = joint.join(words)
    if not text.strip():
        return
    (left,) = delete_patterns([text], patterns)
    assert not any(pattern.search(left) for pattern in check_patterns(patterns).values())
    if left != text:
        assert len(left) < len(text)
    # every word left stands in the text, in the same order; articles alone may change
    before = iter(re.sub(r"\ban\b", "a", text, flags=re.I).split(" ") if joint == " " else [])
    if joint == " ":
        assert all(word in before for word in re.findall(r"\w+", re.sub(r"\ban\b", "a", left, flags=re.I)))


def people(n: int = 30) -> pd.DataFrame:
    """A table as an encyclopedia would fill it: no label, and a category that is an attribute."""
    jobs = [("He", "an actor", "men"), ("She", "an actress", "women"), ("He", "a poet", "men")]
    jobs += [("She", "a poet", "women")]
    rows = [
        {"category": kind, "text": f"N{i} is {job}. {who} met poet number {i}."}
        for i in range(n)
        for who, job, kind in jobs
    ]
    rows += [{"category": "films", "text": "An actor's life is a film."}]
    rows += [{"category": "women", "text": f"D{i} is the wife of an actor."} for i in range(3)]
    return pd.DataFrame(rows)


PEOPLE = {"poet": r"\bpoets?\b", "actor": r"\bact(or|ress)\b", "relative": r"wife of"}


SPOKEN = {name: PEOPLE[name] for name in ("poet", "actor")}


def test_columns_from_patterns_keeps_rows_and_the_words_of_names_not_asked_for() -> None:
    frame = people(1)
    frame.index = pd.Index(range(10, 10 + len(frame)))
    read = columns_from_patterns(frame, label_patterns={**PEOPLE, "relative": "number"}, where="text")
    assert read[LABEL].tolist() == ["actor", "actor", "actor", "actor"]
    assert read.index.tolist() == [14, 15, 16, 17]
    read = columns_from_patterns(frame, label_patterns=PEOPLE, labels=["poet", "actor"])
    assert read[LABEL].tolist() == ["actor", "actor", "poet", "poet", "actor"]
    assert read["text"].iloc[0] == "N0 is an. He met number 0."
    assert frame["text"].iloc[0].startswith("N0 is an actor"), "the table given is untouched"
    kept = columns_from_patterns(
        frame, label_patterns=PEOPLE, labels=["poet", "actor"], delete_label_words=False
    )
    assert kept["text"].tolist() == frame.loc[kept.index, "text"].tolist()


def test_the_attribute_is_read_and_its_words_stay() -> None:
    frame = pd.DataFrame(
        {"text": ["A 1950 comedy.", "A 1990 comedy.", "A 1990 drama.", "A 1950 and 1990 drama."]}
    )
    read = columns_from_patterns(
        frame, label_patterns=GENRES, attribute_patterns={"old": r"\b195\d", "new": r"\b199\d"}
    )
    assert read[ATTRIBUTE].tolist() == ["old", "new", "new"]
    assert read["text"].tolist() == ["A 1950.", "A 1990.", "A 1990."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give label_patterns, attribute_patterns or both"),
        ({"label_patterns": PEOPLE, "text": "txt"}, "no column 'txt'; nearest is 'text'"),
        ({"label_patterns": PEOPLE, "labels": ["poett"]}, "no pattern is called 'poett'; nearest is 'poet'"),
        ({"attribute_patterns": PEOPLE, "attributes": ["relativ"]}, "nearest is 'relative'"),
        ({"label_patterns": {"a": "is", "b": " is "}}, "matches exactly one pattern"),
    ],
)
def test_columns_from_patterns_names_what_is_wrong(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        columns_from_patterns(people(2), **arguments)


def test_a_table_gives_a_task_whose_label_stands_no_longer_in_its_texts(tmp_path) -> None:
    path = tmp_path / "leads.csv"
    people().to_csv(path, index=False)
    task = load_table(
        path,
        where={"category": ["men", "women"]},
        attribute="category",
        attributes=["men", "women"],
        label_patterns=PEOPLE,
        labels=["poet", "actor"],
    )
    assert task.cell_counts().to_numpy().tolist() == [[18, 6, 6]] * 4, "seeded, 60/20/20 in each group"
    assert not any(re.search("poet|act(or|ress)", text) for text in task.texts)
    assert task.label_names == ("poet", "actor")
    assert load_table(
        path, attribute="category", attributes=["men", "women"], label_patterns=SPOKEN
    ).label_names == (
        "poet",
        "actor",
    ), "by default the order is that of the patterns"
    first = task.texts[0], task.y[0], task.sensitive_features[0]
    assert first == ("N0 is an. He met number 0.", 1, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give label= .* or label_patterns="),
        ({"label": "category", "label_patterns": PEOPLE}, "one of the two; got label='category'"),
        (
            {"label_patterns": PEOPLE, "attribute": "category", "attribute_patterns": PEOPLE},
            "give attribute= .* not both",
        ),
        (
            {"label_patterns": PEOPLE, "where": {"kategory": ["men"]}},
            "no column 'kategory'; nearest is 'categ",
        ),
        ({"label_patterns": PEOPLE, "where": {"category": ["man"]}}, "no value 'man'; nearest is 'men'"),
        ({"label_patterns": PEOPLE, "labels": ["poet", "relative"]}, "has no value 'relative'"),
        (
            {"label_patterns": PEOPLE, "labels": ["poet", "actor"], "attribute": "category"},
            r"too few texts in poet/films \(0\), actor/films \(1\); each group needs 20 or more",
        ),
    ],
)
def test_a_table_names_what_its_patterns_lack(tmp_path, arguments, message) -> None:
    path = tmp_path / "leads.csv"
    people().to_csv(path, index=False)
    with pytest.raises(ValueError, match=message):
        load_table(path, **arguments)


def test_groups_at_the_limit_pass(tmp_path) -> None:
    path = tmp_path / "leads.csv"
    people(20).to_csv(path, index=False)
    arguments = {"attribute": "category", "label_patterns": PEOPLE, "labels": ["poet", "actor"]}
    task = load_table(path, where={"category": ["men", "women"]}, **arguments)
    check_groups(task)
    with pytest.raises(ValueError, match=r"poet/men \(20\), poet/women \(20\), actor/men \(20\)"):
        check_groups(task, at_least=21)


def test_wikipedia_leads_are_read_as_a_reader_would(shared) -> None:
    frame = pd.read_parquet(shared / "data" / "wikipedia_leads.parquet")
    films = frame[frame["category"] == "film"]
    read = columns_from_patterns(films, label_patterns=GENRES, delete_label_words=False)
    # an independent reading: the genre right before "film" agrees with the pattern
    said = read["text"].str.extract(r"^.{0,150}? is an? (?:[\w-]+ )*?(comedy|drama) film", expand=False)
    assert said.notna().sum() > 500
    assert (said == read[LABEL])[said.notna()].mean() > 0.99
