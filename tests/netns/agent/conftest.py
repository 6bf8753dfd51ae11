"""A master's end of the agent protocol, an agent as a process, a plugin that gives addresses."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.netns.agent.house import eventually
from tests.netns.agent.lead import Lead
from tests.netns.agent.node import Agent, Node, free_port

from phalanx.agent.cleanup import remove_all


def _names(pid: str, text: str) -> bool:
    try:
        return text in Path("/proc", pid, "cmdline").read_text()
    except OSError:
        return False


async def swept(made: Node) -> None:
    """End an agent, remove what it left, and hold that nothing is left then."""
    if made.process is not None:
        await made.end(signal.SIGKILL)
    remove_all(made.runtime, made.cgroups)
    sys.stderr.write(made.log.read_text() if made.log.exists() else "")
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{made.cgroups}"))
    assert str(made.base) not in Path("/proc/self/mountinfo").read_text()
    await eventually(lambda: not any(_names(pid, str(made.base)) for pid in os.listdir("/proc")))


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path, free_port(), f"phxtest-{uuid4().hex[:8]}")
    try:
        yield made
    finally:
        await swept(made)


@pytest.fixture
async def lead() -> AsyncIterator[Lead]:
    async with Lead().serve() as serving:
        yield serving


@pytest.fixture
async def up(lead: Lead, node: Node) -> Node:
    """An agent that has registered, and knows who it is whenever it ends."""
    await node.start(lead.port)
    await lead.until(lambda: lead.subscribes)
    await node.named()
    return node


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    made = Agent(tmp_path, free_port(), f"phxtest-{uuid4().hex[:8]}/agent")
    try:
        yield made
    finally:
        await swept(made)


@pytest.fixture
async def ready(lead: Lead, agent: Agent) -> Agent:
    """An agent with images that has registered."""
    await agent.start(lead.port)
    await lead.until(lambda: lead.subscribes)
    return agent
