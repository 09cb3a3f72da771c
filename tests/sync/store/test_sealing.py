"""What is sealed opens where it was put, with the key it was sealed with, and nowhere else."""

import pytest

from segue.core.errors import ConfigError, StoreError
from segue.sync.store.sealing import PLAIN, Sealing, is_sealed, parse_keys

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
PLACE = ("outbox", "newsletter", 12)


def test_what_is_sealed_opens_at_its_place_and_shows_nothing_before() -> None:
    sealing = Sealing([NEW])
    sealed = sealing.seal(b"ann@shop.example", *PLACE)
    assert b"ann" not in sealed
    assert sealing.unseal(sealed, *PLACE) == b"ann@shop.example"
    text = sealing.seal_text("ann@shop.example", *PLACE)
    assert is_sealed(text)
    assert sealing.unseal_text(text, *PLACE) == "ann@shop.example"


@pytest.mark.parametrize(
    "place", [("inbox", *PLACE[1:]), ("outbox", "other", 12), ("outbox", "newsletter", 13)]
)
def test_a_value_that_was_moved_does_not_open(place: tuple[object, ...]) -> None:
    sealing = Sealing([NEW])
    with pytest.raises(StoreError, match="changed or moved"):
        sealing.unseal(sealing.seal(b"ann", *PLACE), *place)


def test_no_byte_can_be_changed() -> None:
    sealing = Sealing([NEW])
    sealed = sealing.seal(b"ann@shop.example", *PLACE)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(StoreError):
            sealing.unseal(bytes(changed), *PLACE)


@pytest.mark.parametrize("length", [0, 2, 3, 6, 14, 20, 26, 40])
def test_a_value_that_was_cut_does_not_open(length: int) -> None:
    sealing = Sealing([NEW])
    with pytest.raises(StoreError):
        sealing.unseal(sealing.seal(b"ann", *PLACE)[:length], *PLACE)
    with pytest.raises(StoreError):
        sealing.unseal_text(sealing.seal_text("ann", *PLACE)[:length], *PLACE)


def test_one_value_is_sealed_to_another_text_each_time() -> None:
    sealing = Sealing([NEW])
    assert sealing.seal(b"ann", *PLACE) != sealing.seal(b"ann", *PLACE)


def test_an_older_key_opens_and_the_newest_seals() -> None:
    before = Sealing([OLD]).seal(b"ann", *PLACE)
    both = Sealing([NEW, OLD])
    assert both.unseal(before, *PLACE) == b"ann"
    now = both.seal(b"ann", *PLACE)
    assert now.startswith(Sealing([NEW]).prefix)
    assert Sealing([NEW]).unseal(now, *PLACE) == b"ann"
    with pytest.raises(StoreError, match="which is not given"):
        Sealing([NEW]).unseal(before, *PLACE)


def test_another_process_opens_what_this_one_sealed() -> None:
    assert Sealing([NEW]).unseal(Sealing([NEW]).seal(b"ann", *PLACE), *PLACE) == b"ann"


def test_a_clear_value_is_refused_where_all_are_sealed() -> None:
    for clear in (b"{}", b"", b"SEA"):
        assert Sealing([NEW], plain_too=True).unseal(clear, *PLACE) == clear
        with pytest.raises(StoreError, match="not encrypted"):
            Sealing([NEW]).unseal(clear, *PLACE)


def test_a_clear_value_that_looks_sealed_is_still_given_as_it_is_while_clear_ones_are_there() -> None:
    looks_sealed = Sealing([OLD]).seal(b"ann", *PLACE)
    assert Sealing([NEW], plain_too=True).unseal(looks_sealed, *PLACE) == looks_sealed


def test_without_a_key_everything_stays_as_it_is() -> None:
    assert not PLAIN.is_on
    assert PLAIN.unseal(PLAIN.seal(b"ann", *PLACE), *PLACE) == b"ann" == PLAIN.seal(b"ann", *PLACE)
    assert PLAIN.seal_text("ann", *PLACE) == "ann"


def test_keys_are_read_newest_first() -> None:
    assert parse_keys(f" {NEW.hex()} {OLD.hex()}\n") == [NEW, OLD]
    assert parse_keys(NEW.hex().upper()) == [NEW]


@pytest.mark.parametrize("text", ["", "abc", NEW.hex()[:-2], f"{NEW.hex()} x", f"{NEW.hex()} {NEW.hex()}"])
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_keys(text)
    assert NEW.hex()[:20] not in str(refused.value)
