"""A table fits the terminal: one column gives way, then the least important ones go."""

from leyden.cli.screen import Column, fit

COLUMNS = [Column("ID"), Column("NAME", cuts=True), Column("AGE", may_go=True), Column("WHO", may_go=True)]


def test_what_fits_is_left_alone() -> None:
    assert fit(COLUMNS, [10, 20, 5, 5], room=46) == [10, 20, 5, 5]


def test_a_column_that_may_be_cut_gives_way_first() -> None:
    assert fit(COLUMNS, [10, 20, 5, 5], room=40) == [10, 14, 5, 5]


def test_columns_that_may_go_do_so_from_the_right_and_only_as_many_as_needed() -> None:
    assert fit(COLUMNS, [10, 20, 5, 5], room=30) == [10, 8, 5, 0]
    assert fit(COLUMNS, [10, 20, 5, 5], room=20) == [10, 8, 0, 0]
    assert fit(COLUMNS, [10, 3, 5, 5], room=5) == [10, 3, 0, 0]
