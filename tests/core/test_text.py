from edgepack.core.text import printable


def test_control_characters_are_replaced_and_all_others_stay() -> None:
    assert printable("é — 数 \n") == "é — 数 \n"
    assert printable("a\x1b[2J\r\x9b31m\u202eb") == "a�[2J��31m�b"
