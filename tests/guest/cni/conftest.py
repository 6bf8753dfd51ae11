"""A node for each test, under a kernel that has what the development machine's lacks."""

from tests.netns.cni.conftest import host as host
from tests.netns.cni.conftest import installed as installed
