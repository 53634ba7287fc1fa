"""Values of other systems as fields of cases."""

from datetime import UTC, datetime

import pytest

from support_service.cases.model.vocabulary import MAX_TEXT_LENGTH
from support_service.core.errors import ValidationFailed
from support_service.importing import fields
from tests.support.each import each_row


@each_row(
    ("value", "expected"),
    [
        (1_700_000_000, "2023-11-14T22:13:20.000000Z"),
        (1_700_000_000.5, "2023-11-14T22:13:20.500000Z"),
        ("2021-11-03T02:57:19.141Z", "2021-11-03T02:57:19.141000Z"),
        ("2021-11-03T02:57:19+07:00", "2021-11-02T19:57:19.000000Z"),
        ("2021-11-03 02:57:19", "2021-11-03T02:57:19.000000Z"),
        ("2021-11-03 02:57:19 UTC", "2021-11-03T02:57:19.000000Z"),
        (datetime(2021, 11, 3, tzinfo=UTC), "2021-11-03T00:00:00.000000Z"),
        *((value, value) for value in ("yesterday", "0001-01-01T00:00:00+14:00")),
        *((value, None) for value in (0, "", None, True)),
    ],
)
def test_times_of_any_form_become_rfc_3339(value, expected):
    """A time that can't be read stays as it is, and is refused when the case is validated."""
    assert fields.rfc3339_time(value) == expected


@each_row(
    ("value", "number", "expected"),
    [
        *(("ann@mail.example", 7, "ann@mail.example"), (7, 7, "7"), (None, None, None)),
        *((value, 7, "zammad-7") for value in ("x" * 37, "", None)),
    ],
)
def test_ids_that_do_not_fit_are_replaced_by_numbers(value, number, expected):
    assert fields.identifier(value, "zammad", number) == expected


def test_long_text_is_split_into_messages_without_a_loss():
    """At the end of a line, if there is one."""
    lines = [f"{number}: {'x' * 90}" for number in range(2000)]
    parts = fields.split_text("\n".join(lines))
    assert len(parts) > 2
    assert max(map(len, parts)) <= MAX_TEXT_LENGTH
    assert "\n".join(parts).split("\n") == lines
    assert "".join(fields.split_text("y" * 200_000)) == "y" * 200_000
    sent = {"externalId": "7", "message": "z" * 70_000, "authorType": "agent", "attachment": "a"}
    first, second = fields.split_message(sent)
    assert (first["externalId"], second["externalId"], "attachment" in second) == ("7", "7#2", False)


def test_message_without_a_text_gets_one():
    """The API refuses blank messages, and other systems have them: of files only."""
    for text in (None, "", "  \n", "\u00a0"):
        assert fields.split_text(text) == [fields.NO_TEXT_PLACEHOLDER]


@each_row(
    ("html", "text"),
    [
        ("a<br>b", "a\nb"),
        ("<p>a &amp; b</p><p>c</p>", "a & b\n\nc"),
        ("<ul><li>a</li><li>b</li></ul>", "a\n\nb"),
        ("<style>p {}</style><script>x</script>a", "a"),
        ('a <img src="x" alt="logo"> b', "a [logo] b"),
        ("a <b>b", "a b"),
        ("<" * 1000, "<" * 1000),
        ("<![foo]>a <![if !x]>b<![endif]><![ c>d", "a bd"),
        ("a <![ b", "a <![ b"),
        ("a <p>b <!-- c &amp; <i>d", "a\nb <!-- c & <i>d"),
        ('a <b>b <img alt="c', 'a b <img alt="c'),
        ("plain", "plain"),
    ],
)
def test_html_becomes_text(html, text):
    """Blocks become lines; scripts and styles are left out."""
    assert fields.text_of_html(html) == text


@each_row("shape", ["<!--", "<![", "<!", "<", "</", "<?", "<a ", "<a/", '<a b="', "<a b='", "&#"])
def test_a_megabyte_of_what_does_not_end_is_read_before_the_timeout(shape):
    """The time grows with the length alone. That also holds for a time with blanks, which is none."""
    html = (shape * 1_000_000)[:1_000_000]
    assert fields.text_of_html(html) == html.strip()
    value = f"x{' ' * 1_000_000}x"
    assert fields.rfc3339_time(value) == value


def test_html_that_is_too_long_is_refused():
    """Instead of being cut, or read for minutes."""
    with pytest.raises(ValidationFailed, match="may have at most 4,194,304"):
        fields.text_of_html("x" * 4_194_305)
    assert fields.text_of_html("x" * 4_194_304) == "x" * 4_194_304


def test_tags_are_within_their_limits():
    assert fields.cleaned_tags(["a", "a", " b ", "", "x" * 70]) == ["a", "b", "x" * 64]
    assert len(fields.cleaned_tags([str(number) for number in range(60)])) == 50
    assert fields.cleaned_tags(None) == []
