r"""The `options` of a startup packet: a command line for the server process, read as PostgreSQL reads it.

`-c name=value`, `--name=value`, a backslash keeps the next character (so `\ ` is a space inside a value), and the old
one-letter switches, each of which is a setting. Nothing is decoded further: `+` and `%20` are characters like others,
as in PostgreSQL. Follows pg_split_opts() and process_postgres_switches() of postinit.c and postgres.c. Knows only
text.
"""

from proxy.errors import InvalidCommandLine

_SPACE = " \t\n\r\v\f"  # isspace() in the C locale

# switches without and with a value, and what they set
_FLAGS: dict[str, tuple[str, str]] = {
    "e": ("datestyle", "euro"),
    "F": ("fsync", "false"),
    "i": ("listen_addresses", "*"),
    "l": ("ssl", "true"),
    "O": ("allow_system_table_mods", "true"),
    "P": ("ignore_system_indexes", "true"),
    "s": ("log_statement_stats", "true"),
}
_VALUED: dict[str, str] = {
    "B": "shared_buffers",
    "h": "listen_addresses",
    "k": "unix_socket_directories",
    "N": "max_connections",
    "p": "port",
    "S": "work_mem",
    "W": "post_auth_delay",
}
_PLANS: dict[str, str] = {
    "s": "enable_seqscan",
    "i": "enable_indexscan",
    "o": "enable_indexonlyscan",
    "b": "enable_bitmapscan",
    "t": "enable_tidscan",
    "n": "enable_nestloop",
    "m": "enable_mergejoin",
    "h": "enable_hashjoin",
}
_STATS: dict[str, str] = {"pa": "log_parser_stats", "pl": "log_planner_stats", "e": "log_executor_stats"}
_IGNORED_FLAGS = "bEjnT"  # do nothing for a client
_IGNORED_VALUED = "CDrv"


def split(text: str) -> list[str]:
    """Words, at unescaped white space; a trailing lone backslash vanishes."""
    words: list[str] = []
    word: list[str] | None = None
    escaped = False
    for char in text:
        if char in _SPACE and not escaped:
            if word is not None:
                words.append("".join(word))
                word = None
            continue
        if word is None:
            word = []
        if char == "\\" and not escaped:
            escaped = True
            continue
        escaped = False
        word.append(char)
    if word is not None:
        words.append("".join(word))
    return words


def _long(switch: str, text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise InvalidCommandLine(f"--{text} requires a value" if switch == "-" else f"-c {text} requires a value")
    return name.replace("-", "_"), value


def _refuse(word: str) -> InvalidCommandLine:
    error = InvalidCommandLine(f"invalid command-line argument for server process: {word}")
    error.hint = 'Try "postgres --help" for more information.'
    return error


def _valued(switch: str, value: str, word: str) -> tuple[str, str] | None:
    if switch in "c-":
        return _long(switch, value)
    if switch in _VALUED:
        return _VALUED[switch], value
    if switch == "f" and value in _PLANS:
        return _PLANS[value], "false"
    if switch == "t" and value[: 2 if value[:1] == "p" else 1] in _STATS:
        return _STATS[value[: 2 if value[:1] == "p" else 1]], "true"
    if switch == "d":
        return "log_min_messages", f"debug{value}" if value.isdecimal() and int(value) > 0 else "notice"
    if switch in _IGNORED_VALUED:
        return None
    raise _refuse(word)


def parse(text: str) -> list[tuple[str, str]]:
    """Settings in order of appearance, names as written but for `-`, which is `_`. Later ones win."""
    settings: list[tuple[str, str]] = []
    words = split(text)
    while words:
        word = words.pop(0)
        if len(word) < 2 or word[0] != "-" or word == "--":
            raise _refuse(words[0] if word == "--" and words else word)
        at = 1
        while at < len(word):  # several letters may share one dash, as getopt has it
            switch = word[at]
            at += 1
            if switch in _FLAGS:
                settings.append(_FLAGS[switch])
            elif switch in _IGNORED_FLAGS:
                continue
            else:
                if at == len(word) and not words:
                    raise _refuse(word)
                value = word[at:] if at < len(word) else words.pop(0)
                setting = _valued(switch, value, word)
                if setting is not None:
                    settings.append(setting)
                break
    return settings
