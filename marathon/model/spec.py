"""What the scheduler runs: apps and pods, which it asks by the same names."""

from phalanx.marathon.model.app import App
from phalanx.marathon.model.pod import Pod

Spec = App | Pod
