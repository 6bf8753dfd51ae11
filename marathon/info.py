"""What ``/v2/info`` says of our settings, under the names of Marathon's flags."""

import socket
from collections.abc import Mapping

from phalanx.marathon.config import MarathonConfig
from phalanx.marathon.schedule.service_port import FIRST, LAST

VERSION = "1.11.24"  # of the REST API that we are compatible with
FAILOVER_SECONDS = 604_800.0


def info(config: MarathonConfig) -> Mapping[str, object]:
    """Return version and settings; a setting that we do not have is null."""
    hostname = config.hostname or socket.gethostname()
    return {
        "version": VERSION,
        "buildref": "phalanx",
        "marathon_config": {
            "access_control_allow_origin": sorted(config.origins),
            "checkpoint": True,
            "decline_offer_duration": 120_000,
            "default_network_name": config.default_network_name,
            "env_vars_prefix": None,
            "executor": "//cmd",
            "failover_timeout": FAILOVER_SECONDS,
            "features": ["external_volumes", "gpu_resources", "secrets", "task_killing", "vips"],
            "framework_name": config.framework_name,
            "ha": config.zk is not None,
            "hostname": hostname,
            "launch_token": None,
            "launch_token_refresh_interval": None,
            "leader_proxy_connection_timeout_ms": 5000,
            "leader_proxy_read_timeout_ms": 10_000,
            "local_port_max": LAST,
            "local_port_min": FIRST,
            "maintenance_mode": True,
            "master": str(config.master),
            "max_instances_per_offer": None,
            "mesos_bridge_name": "mesos-bridge",
            "mesos_heartbeat_failure_threshold": 5,
            "mesos_heartbeat_interval": 15_000,
            "mesos_leader_ui_url": None,
            "mesos_role": "*",
            "mesos_user": "root",
            "min_revive_offers_interval": 250,
            "new_group_enforce_role": "off",
            "offer_matching_timeout": None,
            "on_elected_prepare_timeout": None,
            "reconciliation_initial_delay": 0,
            "reconciliation_interval": 600_000,
            "scale_apps_initial_delay": 0,
            "scale_apps_interval": None,
            "store_cache": True,
            "task_launch_confirm_timeout": 30_000,
            "task_launch_timeout": 300_000,
            "task_lost_expunge_initial_delay": 0,
            "task_lost_expunge_interval": None,
            "task_reservation_timeout": 20_000,
            "webui_url": f"http://{hostname}:{config.http_port}",
        },
        "zookeeper_config": _zookeeper(config),
        "http_config": {"http_port": config.http_port, "https_port": None},
    }


def _zookeeper(config: MarathonConfig) -> Mapping[str, object]:
    if config.zk is None:
        return {}
    return {
        "zk": str(config.zk),
        "zk_max_versions": 50,
        "zk_session_timeout": config.zk_session_timeout,
    }
