"""DBC files of strangers: what cantools makes of them ends within time and memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import UsageError
from transforms.can import dbc_text
from transforms.can.dbc import MAX_DBC_BYTES, Database
from transforms.can.dbc_text import DbcError, messages_of, parse
from transforms.isolation import Limits

HEAD = "BU_: X\n\nBO_ 5 m: 8 X\n"
SIGNAL = ' SG_ {} : 0|8@1+ (1,0) [0|0] "" X\n'


def multiplexed(depth: int) -> str:
    """Multiplexers in multiplexers, each with 256 values: a codec for each combination."""
    signals = [SIGNAL.format(f"s{n} {'m0M' if n else 'M'}") for n in range(depth)]
    values = [f"SG_MUL_VAL_ 5 s{n} s{n - 1} 0-255;\n" for n in range(1, depth)]
    return HEAD + "".join(signals) + "\n" + "".join(values)


def test_the_child_reads_what_this_process_reads(data: Path) -> None:
    for path in sorted((data / "dbc").glob("*.dbc")):
        content = path.read_bytes()
        assert messages_of(content) == tuple(parse(content))
        assert len(messages_of(content)) > 20


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (multiplexed(5), "parsing it (needs more than 256 MB of memory|does not end within 3 s)"),
        ('BU_: X\n\nBA_DEF_ BO_ "x" INT 0 1e999999999;\n', "parsing it "),
        (";" * MAX_DBC_BYTES, "parsing it "),
    ],
    ids=["multiplexers", "exponent", "tokens"],
)
def test_a_text_that_takes_for_ever_is_refused_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    monkeypatch.setattr(dbc_text, "LIMITS", Limits(3, 256 << 20))
    path = tmp_path / "x.dbc"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"x\.dbc: {why}.*; correct or shorten it"):
        Database.load([str(path)])


def test_a_message_of_too_many_signals_is_refused() -> None:
    signals = "".join(SIGNAL.format(f"s{n}") for n in range(dbc_text.MAX_SIGNALS + 1))
    with pytest.raises(DbcError, match="message 'm': 4097 signals; a message may have 4096"):
        parse((HEAD + signals).encode())
    (message,) = parse((HEAD + signals.rpartition(" SG_")[0]).encode())
    assert len(message.signals) == dbc_text.MAX_SIGNALS


def test_a_long_chain_of_multiplexers_is_one_line() -> None:
    chain = multiplexed(2000).replace("0-255", "0-0").encode()
    with pytest.raises(DbcError) as refusal:
        messages_of(chain)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("factor", ["1e999", "9" * 400, "-1e999"])
def test_a_factor_that_is_not_finite_is_refused(factor: str) -> None:
    text = HEAD + SIGNAL.format("s").replace("(1,0)", f"({factor},0)")
    with pytest.raises(DbcError, match="message 'm', signal 's': factor and offset must be finite"):
        messages_of(text.encode())


def test_a_text_is_parsed_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    content = (HEAD + SIGNAL.format("once")).encode()
    first = messages_of(content)
    monkeypatch.setattr(dbc_text, "attempt", None)
    assert messages_of(bytes(content)) is first
