"""A question that leans on the one before is asked with the name that it was about; others stay as they are."""

from __future__ import annotations

import pytest

from memlong.config import AskOptions
from memlong.session.follow_up import standing_alone
from memlong.trace.events import QuestionAsked


@pytest.mark.parametrize(
    ("before", "question", "asked"),
    [
        ("Who is Ada Brenn?", "How old is she?", "How old is Ada Brenn?"),
        ("Who is Ada Brenn?", "And where was she born?", "Where was Ada Brenn born?"),
        ("Who is Ada Brenn?", "But who taught her?", "Who taught Ada Brenn?"),
        ("Who is Ada Brenn?", "Who met her in Orlath?", "Who met Ada Brenn in Orlath?"),
        ("Who is Ada Brenn?", "When did she come to Orlath?", "When did Ada Brenn come to Orlath?"),
        ("Who is Ada Brenn?", "And her favourite dish?", "Ada Brenn's favourite dish?"),
        ("Who is Ada Brenn?", "His trade was what?", "Ada Brenn's trade was what?"),
        ("Who is Ada Brenn?", "Tell me more about them.", "Tell me more about Ada Brenn."),
        ("When did Ada Brenn come to Orlath?", "Why did she leave?", "Why did Ada Brenn leave?"),
        ("Describe Ada Brenn.", "How old is she?", "How old is Ada Brenn?"),
        ("Where does Mr. Lionel O'Hara live?", "How old is he?", "How old is Mr. Lionel O'Hara?"),
        ("Who is Zo\u00eb \u00c5strand?", "How old is she?", "How old is Zo\u00eb \u00c5strand?"),
        ("Who built the casket Pelmys?", "How heavy is it?", "How heavy is the casket Pelmys?"),
        ("What did Ada Brenn put in the casket Pelmys?", "Who made it?", "Who made the casket Pelmys?"),
        ("What did Ada Brenn put in the casket Pelmys?", "Where was she born?", "Where was Ada Brenn born?"),
        ("What is Ada Brenn's boat called?", "What is its colour?", "What is Ada Brenn's boat's colour?"),
        ("What is Ada Brenn\u2019s boat called?", "How long is it?", "How long is Ada Brenn\u2019s boat?"),
        ("What is Ada Brenn's boat called?", "Where was she born?", "Where was Ada Brenn born?"),
        ("What does Ada Brenn fear?", "And Tom Hale?", "What does Tom Hale fear?"),
        ("What does Ada Brenn fear?", "What about Tom Hale?", "What does Tom Hale fear?"),
        ("Where is the casket Pelmys?", "And the anchor Torrulf?", "Where is the anchor Torrulf?"),
        ("Where did Ada Brenn live?", "Does it say what she feared?", "Does it say what Ada Brenn feared?"),
        ("When did Ada Brenn die?", "Was it raining when she died?", "Was it raining when Ada Brenn died?"),
        ("Where is the casket Pelmys?", "Is it true that it is heavy?", "Is it true that the casket Pelmys is heavy?"),
        ("Where is the casket Pelmys?", "Is it still there?", "Is the casket Pelmys still there?"),
    ],
)  # fmt: skip
def test_what_leans_on_the_question_before_is_asked_with_its_name(before, question, asked):
    assert standing_alone(question, [before]) == asked
    assert standing_alone(asked, [before]) == asked and standing_alone(question, []) == question


@pytest.mark.parametrize(
    ("before", "question"),
    [
        ("Who is Ada Brenn?", "Where does Tom Hale live?"),
        ("Who is Ada Brenn?", "What did Tom Hale do with his hat?"),  # his own
        ("Who is Ada Brenn?", "Does it say who Tom Hale is?"),
        ("Who is Ada Brenn?", "What time is it?"),
        ("Who is Ada Brenn?", "And which year was it?"),
        ("Who built the casket Pelmys?", "Is it known?"),
        ("Who is Ada Brenn?", "And why?"),
        ("Who is Ada Brenn?", "Really?"),
        ("Who is Ada Brenn?", "And when was that?"),
        ("Who is Ada Brenn?", "Summarise the text."),
        ("Who is Ada Brenn?", "\u00bfQu\u00e9 he hecho?"),  # Spanish: what have I done
        ("Wer ist Ada Brenn?", "Und wo wohnt er?"),
        ("Who kept the mill?", "How old was she?"),  # no name to say
        ("What happened in December?", "Who did it?"),
        ("", "How old is she?"),
    ],
)  # fmt: skip
def test_other_questions_stay_as_they_are(before, question):
    assert standing_alone(question, [before]) == question


def test_a_question_may_lean_on_one_that_leans():
    asked = ["Where does Ada Brenn live?", "What does she fear?", "And Tom Hale?"]
    assert standing_alone("Who taught him?", asked) == "Who taught Tom Hale?"
    assert standing_alone("How old is she?", asked[:2]) == "How old is Ada Brenn?"
    # Who asks for something else in between has left her behind.
    assert standing_alone("How old is she?", [*asked, "Who kept the mill?"]) == "How old is she?"


FIRST, SECOND = "Where did Ottoline Varga live?", "And what did she keep?"


def test_memory_is_asked_a_follow_up_in_words_that_stand_alone(make_session, long_text):
    session = make_session(top_k=2)
    session.read(long_text)
    options = AskOptions(max_tokens=4, follow_ups=True)
    first, second = session.ask(FIRST, options), session.ask(SECOND, options)
    assert (first.question, first.asked) == (FIRST, FIRST)
    assert (second.question, second.asked) == (SECOND, "What did Ottoline Varga keep?")
    assert session.turns == [(FIRST, first.text), (SECOND, second.text)]
    events = session.recorder.filter("QuestionAsked")
    assert [(e.question, e.step_of) for e in events if isinstance(e, QuestionAsked)] == [
        (FIRST, ""),
        (second.asked, ""),
    ]
    alone = session.ask(second.asked, AskOptions(max_tokens=4))
    assert (alone.text, alone.logprob) == (second.text, second.logprob)
    assert [item.chunk_id for item in alone.retrieved] == [item.chunk_id for item in second.retrieved]


def test_by_itself_every_question_is_asked_as_it_stands(make_session, long_text):
    session = make_session(top_k=2)
    session.read(long_text)
    session.ask(FIRST, AskOptions(max_tokens=1))
    assert session.ask(SECOND, AskOptions(max_tokens=1)).asked == SECOND
