"""A command line of any text is a list of settings or InvalidCommandLine, in bounded time."""

from proxy.errors import InvalidCommandLine
from proxy.pgsql import options
from tests.fuzz import mutate as mutators

TOKENS = [
    b"-c ",
    b"--",
    b"=",
    b"\\",
    b"\\ ",
    b" ",
    b"\t",
    b"-",
    b"geqo",
    b"-F",
    b"-fs",
    b"-tpa",
    b"-d5",
    b"-S",
    b"-B 7",
    b"\xc2\xb2",
    b"\xff",
]


def seeds() -> list[bytes]:
    return [
        rb"-c search_path=a,b --work-mem=64MB -c application_name=a\ b",
        rb"-d 5 -B 100 -N7 -fs -tpl -te -F -O -eis -- x",
        rb"--a-b=c\\d \ ",
        "-d ² -c ü=ö".encode(),
        b"\xff-c \x80=\xfe",
        *TOKENS,
    ]


def mutate(rng, data, pool):  # type: ignore[no-untyped-def]
    if rng.random() < 0.5:
        return mutators.raw(rng, data, pool)
    at = rng.randrange(len(data) + 1)
    return (data[:at] + b"".join(rng.choices(TOKENS, k=rng.choice((1, 2, 8)))) + data[at:])[:10_000]


def _refused(error: InvalidCommandLine) -> None:
    assert len(error.sqlstate) == 5
    assert error.pg_text


def check(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    words = options.split(text)
    assert sum(map(len, words)) <= len(text)
    # what was split once is found again behind an escape before every character
    full = [word for word in words if word]
    assert options.split(" ".join("".join("\\" + char for char in word) for word in full)) == full
    try:
        settings = options.parse(text)
    except InvalidCommandLine as error:
        _refused(error)
        return
    assert all("-" not in name for name, _ in settings), settings
    assert sum(len(value) for _, value in settings) <= len(text) + 10 * len(settings) + 5
