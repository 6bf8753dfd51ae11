"""The settings of a master: what is taken, and what is refused with key and value."""

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from phalanx.core.config import Loader, ZooKeeperAddress
from phalanx.core.error import ConfigError
from phalanx.master.agents.limit import Rate
from phalanx.master.allocator.constraint import RegexLimits
from phalanx.master.allocator.rule import Timing
from phalanx.master.app import main
from phalanx.master.config import MasterConfig
from phalanx.master.discovery import discovered
from phalanx.master.network.definition import NetworkSpec
from phalanx.mesos.v1.mesos import Address

# What Mesos 1.11 shows for a master with default settings.
GOLDEN = """
agent_ping_timeout agent_reregister_timeout allocation_interval allocator
allocator_agent_recovery_factor allocator_recovery_timeout authenticate_agents
authenticate_frameworks authenticate_http_frameworks authenticate_http_readonly
authenticate_http_readwrite authentication_v0_timeout authenticators authorizers help
hostname_lookup http_authenticators initialize_driver_logging ip log_auto_initialize
logbufsecs logging_level max_agent_ping_timeouts max_completed_frameworks
max_completed_tasks_per_framework max_operator_event_stream_subscribers
max_unreachable_tasks_per_framework memory_profiling min_allocatable_resources port quiet
recovery_agent_removal_limit registry registry_fetch_timeout registry_gc_interval
registry_max_agent_age registry_max_agent_count registry_store_timeout registry_strict
require_agent_domain root_submissions version work_dir zk_session_timeout
"""


def load(*arguments: str, **environ: str) -> MasterConfig:
    loader = Loader(MasterConfig, program="master", about="", environ_prefix="MESOS")
    return loader.load(["--work-dir", "/nowhere", *arguments], environ)


def test_defaults_are_those_of_mesos() -> None:
    config = load()

    assert config.port == 5050
    assert config.unreachable_seconds == 75.0
    assert config.suspect_seconds == 2.5
    assert config.reregister_seconds == 600.0
    assert list(config.default_networks) == [
        NetworkSpec("dcos", "9.0.0.0/8"),
        NetworkSpec("dcos6", subnet6="fd01:b::/64"),
    ]
    assert list(config.offer_rules.minimums) == [{"cpus": 10}, {"mem": 32000}]


def test_flags_of_the_allocator_keep_mesos_meaning() -> None:
    config = load(
        "--role_sorter=random",
        "--fair_sharing_excluded_resource_names=gpus, disk",
        "--no-filter_gpu_resources",
        "--offer_timeout=90secs",
        "--offer_constraints_re2_max_mem=8KB",
        "--offer_constraints_re2_max_program_size=7",
        '--domain={"fault_domain":{"region":{"name":"eu"},"zone":{"name":"eu-1"}}}',
    )

    rules = config.offer_rules
    assert (rules.role_sorter, rules.framework_sorter) == ("random", "drf")
    assert rules.unfair == {"gpus", "disk"}
    assert not rules.filters_gpus
    assert rules.regex == RegexLimits(8192, 7)
    assert rules.region == "eu"
    assert config.offer_timing == Timing(1.0, 90.0)
    assert load().offer_timing == Timing(1.0, None)
    assert load().offer_rules.regex == RegexLimits(4096, 100)


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("--role-sorter=fair", "--role-sorter: 'fair': is not drf or random"),
        ("--framework-sorter=", "--framework-sorter: ''"),
        ("--offer-timeout=soon", "--offer-timeout: 'soon'"),
        ("--offer-constraints-re2-max-mem=4", "--offer-constraints-re2-max-mem: '4'"),
        ("--min-allocatable-resources=cpus", "--min-allocatable-resources: "),
    ],
)
def test_flags_of_the_allocator_that_cannot_be_are_refused(flag: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(flag)


def test_underscores_and_environment_work_too() -> None:
    config = load("--agent_ping_timeout", "2secs", MESOS_CLUSTER="lab", MESOS_HOSTNAME="m1")

    assert config.unreachable_seconds == 10.0
    assert config.flags()["cluster"] == "lab"
    assert config.public_hostname == "m1"


def test_several_default_networks_are_separated_by_commas() -> None:
    config = load("--default-network", "dcos=9.0.0.0/8,blue=10.7.0.0/16")

    assert [spec.name for spec in config.default_networks] == ["dcos", "blue"]


def test_without_ipv6_there_are_neither_networks_nor_vips_of_it() -> None:
    config = load("--no-enable-ipv6")

    assert [spec.name for spec in config.default_networks] == ["dcos"]
    assert config.ground.vip_range6 is None


def test_flags_leave_out_what_has_no_value() -> None:
    assert "zk" not in load().flags()
    assert load().flags()["allocation_interval"] == "1secs"


def test_zookeeper_is_split_into_hosts_and_path() -> None:
    config = load("--zk", "zk://user:secret@a:1,b:2/mesos")

    assert config.zk == ZooKeeperAddress("a:1,b:2", "/mesos", "user:secret")
    assert config.flags()["zk"] == "zk://user:***@a:1,b:2/mesos"


def test_old_names_of_flags_work() -> None:
    config = load("--slave_ping_timeout=1secs", "--max_slave_ping_timeouts=2")

    assert config.unreachable_seconds == 2.0
    assert load(MESOS_SLAVE_REREGISTER_TIMEOUT="11mins").reregister_seconds == 660.0


def test_frameworks_that_are_taken_can_be_limited() -> None:
    assert load().policy.roles is None
    limited = load("--roles=web, ops", "--no-root_submissions").policy

    assert limited.roles == frozenset({"*", "web", "ops"})
    assert not limited.takes_root


def test_flags_are_strings_as_mesos_shows_them() -> None:
    flags = load("--log_dir=/var/log/x", "--quorum=2").flags()

    assert flags["authenticate_frameworks"] == "false"
    assert flags["quorum"] == "2"
    assert flags["recovery_agent_removal_limit"] == "100%"
    assert flags["version"] == "false"
    assert "modules" not in flags


def test_every_flag_of_the_golden_master_is_known() -> None:
    assert set(GOLDEN.split()) - load("--hostname=m").flags().keys() == set()


def test_what_others_know_us_by_can_differ_from_where_we_listen() -> None:
    config = load("--advertise_ip=10.0.0.1", "--advertise_port=80", "--ip=127.0.0.1")
    info = config.identity("me", 5050)

    assert (info.ip, info.port, info.pid) == (16777226, 80, "master@10.0.0.1:80")
    assert info.address == Address(hostname="10.0.0.1", ip="10.0.0.1", port=80)


def test_a_fault_domain_goes_into_our_identity() -> None:
    text = '{"fault_domain":{"region":{"name":"r"},"zone":{"name":"z"}}}'
    domain = load("--domain", text).identity("me", 1).domain

    assert domain is not None
    assert domain.fault_domain is not None
    assert domain.fault_domain.region.name == "r"


@pytest.mark.parametrize(
    ("text", "rate"),
    [("", None), ("1/10mins", Rate(1, 600.0)), ("20/1secs", Rate(20, 1.0))],
)
def test_removal_rate_is_so_many_in_a_time(text: str, rate: Rate | None) -> None:
    assert load(f"--agent_removal_rate_limit={text}").removal_rate == rate


async def test_address_and_name_are_found_out() -> None:
    found = await discovered(load("--ip_discovery_command", "echo 127.0.0.1"))

    assert str(found.ip) == "127.0.0.1"
    assert found.public_hostname in ("127.0.0.1", "localhost", *socket.gethostbyaddr("127.0.0.1"))
    kept = await discovered(load("--no-hostname_lookup", "--ip=127.0.0.1"))
    assert kept.public_hostname == "127.0.0.1"


@pytest.mark.parametrize(
    ("command", "message"), [("false", "ended with status 1"), ("echo x", "'x'")]
)
async def test_an_address_that_is_not_found_is_said_so(command: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        await discovered(load("--ip_discovery_command", command))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--agent-ping-timeout", "15s"], "--agent-ping-timeout: '15s'"),
        (["--allocation-interval", "0secs"], "--allocation-interval: 0"),
        (["--default-network", "dcos"], "--default-network: 'dcos'"),
        (["--default-network", "dcos=9.0.0.1/8"], "--default-network: 'dcos=9.0.0.1/8'"),
        (["--min-allocatable-resources", "cpus"], "--min-allocatable-resources: resource 'cpus'"),
        (["--max-agent-ping-timeouts", "0"], "--max-agent-ping-timeouts: 0"),
        (["--port", "70000"], "--port: 70000"),
        (["--zk", "localhost:2181"], "--zk: 'localhost:2181'"),
        (["--registry=leveldb"], "--registry: 'leveldb'"),
        (["--registry=in_memory", "--zk=zk://a/x"], "--registry: 'in_memory'"),
        (["--agent_removal_rate_limit=fast"], "--agent-removal-rate-limit: 'fast'"),
        (["--recovery_agent_removal_limit=1"], "--recovery-agent-removal-limit: '1'"),
        (["--recovery_agent_removal_limit=101%"], "--recovery-agent-removal-limit: '101%'"),
        (["--domain={}"], "--domain: names no region"),
        (["--require_agent_domain"], "--require-agent-domain: needs --domain"),
        (["--modules=x"], "--modules: 'x': is refused"),
        (["--hooks=x"], "--hooks: 'x': is refused"),
        (["--authenticate_frameworks"], "--authenticate-frameworks: 'true': is refused"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_value_is_refused_with_key_and_value(arguments: Sequence[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        load(*arguments)


def test_bad_configuration_ends_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["--work-dir", str(tmp_path), "--agent-ping-timeout", "soon"])

    assert status == 2
    assert "--agent-ping-timeout: 'soon'" in capsys.readouterr().err
