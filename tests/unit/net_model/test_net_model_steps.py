"""Steps between two Views: each brings what it says, and the last is the second View."""

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from phalanx.net.model.objects import Framework, Node, Object, Task, TaskPhase, VipLease
from phalanx.net.model.view import FIELD_OF, Ref, View, refs_between, steps_between

NODE = IPv4Address("198.18.0.1")
OBJECTS: st.SearchStrategy[list[Object]] = st.lists(
    st.one_of(
        st.builds(
            lambda n, phase: Task("f", f"t{n}", "web", "S0", NODE, phase),
            st.integers(0, 9),
            st.sampled_from(TaskPhase),
        ),
        st.builds(lambda n, at: VipLease(f"v{n}", NODE + at), st.integers(0, 4), st.integers(0, 1)),
        st.builds(lambda n, at: Node(NODE + n, f"a{at}"), st.integers(0, 2), st.integers(0, 1)),
        st.builds(lambda n: Framework(f"f{n}", "marathon"), st.integers(0, 2)),
    ),
    max_size=20,
)
VIEWS = OBJECTS.map(View().changed)


@given(VIEWS, VIEWS, st.integers(1, 5))
def test_steps_lead_from_one_view_to_the_other(old: View, new: View, size: int) -> None:
    refs = refs_between(old, new)
    before = old
    seen: list[Ref] = []
    for step, brought in steps_between(old, new, refs, size=size):
        assert set(refs_between(before, step)) == set(brought)
        assert sum(kind in (Task.kind, VipLease.kind) for kind, _ in brought) <= size
        seen += brought
        before = step

    assert before is new
    assert sorted(seen) == sorted(refs)


@given(VIEWS, VIEWS)
def test_what_others_refer_to_comes_first(old: View, new: View) -> None:
    first, _ = next(steps_between(old, new, refs_between(old, new), size=1))

    for kind in (Node.kind, Framework.kind):
        assert getattr(first, FIELD_OF[kind]) == getattr(new, FIELD_OF[kind])
