"""Disjoint boxes cover exactly what the given ones cover."""

from itertools import combinations, product

from hypothesis import given
from hypothesis import strategies as st

from phalanx.net.isolation.box import Box, Range, disjoint

SIDE = 6


def spans() -> st.SearchStrategy[Range]:
    points = st.integers(0, SIDE - 1)
    return st.tuples(points, points).map(lambda pair: (min(pair), max(pair)))


def points_of(box: Box) -> set[tuple[int, int, int]]:
    source, destination, ports = (
        range(span[0], span[1] + 1) for span in (box.source, box.destination, box.ports)
    )
    return set(product(source, destination, ports))


BOXES = st.lists(st.builds(Box, spans(), spans(), spans()), max_size=6)


@given(BOXES)
def test_nothing_is_lost_added_or_covered_twice(boxes: list[Box]) -> None:
    pieces = disjoint(boxes)

    assert set().union(*map(points_of, pieces)) == set().union(*map(points_of, boxes))
    for one, other in combinations(pieces, 2):
        assert not points_of(one) & points_of(other)


@given(BOXES)
def test_order_and_repetition_do_not_matter(boxes: list[Box]) -> None:
    assert disjoint(reversed(boxes)) == disjoint([*boxes, *boxes])


def test_boxes_apart_stay_whole() -> None:
    boxes = [Box((0, 9), (0, 9), (80, 80)), Box((0, 9), (0, 9), (443, 443))]

    assert disjoint(boxes) == boxes


def test_narrower_box_inside_a_wider_one_adds_nothing() -> None:
    wide = Box((0, 255), (0, 255), (1, 65535))

    assert disjoint([Box((3, 3), (4, 4), (80, 80)), wide]) == [wide]


def test_thousands_of_narrow_boxes_are_found_disjoint() -> None:
    boxes = [Box((n, n), (n % 50 * 9, n % 50 * 9), (80, 90)) for n in range(5000)]

    assert disjoint(boxes) == sorted(boxes)
