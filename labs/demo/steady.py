"""The main job at rest: networks, apps, containers, names, VIPs, walls."""

from collections import Counter
from collections.abc import Callable
from functools import partial

from phalanx.labs.demo.cluster import Cluster, Instance, expect
from phalanx.labs.demo.proof import Report, until

CONTAINERIP = "web.marathon.containerip.dcos.thisdcos.directory"
L4LB = "web.marathon.l4lb.thisdcos.directory"
MESOS = "web.marathon.mesos"
SRV = "_web._tcp.marathon.mesos"
NODES = ("m1", "a1", "a2")
REQUESTS = 60
WAIT_SECONDS = 30.0


def show_underlay(cluster: Cluster, report: Report) -> None:
    """Show that agents need a router between them, and that everyone is in sync."""

    def routed() -> str:
        near = cluster.on("a1", "ping", "-c1", "-W1", "-t1", cluster.lab.node("a2").address)
        far = cluster.on("a1", "ping", "-c1", "-W2", "-t2", cluster.lab.node("a2").address)
        expect(near.returncode != 0 and far.returncode == 0, near.stdout + far.stdout)
        return "a2 is out of reach with TTL 1, in reach with TTL 2"

    report.prove("cluster", "agents are in different segments, a router between them", routed)


def make_networks(cluster: Cluster, report: Report) -> None:
    """Make two more networks by the API."""

    def make() -> str:
        for name, subnet in (("blue", "10.128.0.0/16"), ("green", "10.129.0.0/16")):
            cluster.master("POST", "/v1/networks", {"name": name, "subnet": subnet})
        networks = cluster.master("GET", "/v1/networks")["networks"]
        leases = {
            n["name"]: [lease["subnet"] or lease["subnet6"] for lease in n["leases"]]
            for n in networks
        }
        wanted = {"dcos", "dcos6", "blue", "green"}
        expect(
            set(leases) == wanted and all(len(v) == 2 for v in leases.values()),
            f"leases: {leases}",
        )
        return "; ".join(f"{name}: {', '.join(subnets)}" for name, subnets in leases.items())

    report.prove("networks", "blue and green made, each agent leased a subnet of each", make)


def deploy(cluster: Cluster, report: Report) -> None:
    """Post the apps and wait for their containers."""
    wanted = {"web": 3, "db": 2, "client": 2, "batch": 1}
    for app in wanted:
        report.prove("apps", f"{app}.json posted", partial(cluster.deploy, app))
    for app, count in wanted.items():
        report.measure(
            "apps",
            f"{app}: {count} running" + (" and healthy" if app in ("web", "db") else ""),
            partial(cluster.await_app, app, count),
        )
    report.prove("apps", "containers are walled-in processes of their own", lambda: _walls(cluster))
    report.prove("apps", "port 80 is bound in every instance", lambda: _every_port(cluster))


def _walls(cluster: Cluster) -> str:
    [web, *_] = cluster.instances("web")
    inside = cluster.inside(
        web,
        "sh",
        "-c",
        "readlink /proc/self/ns/pid /proc/self/ns/mnt /proc/self/ns/uts /proc/self/ns/ipc"
        " /proc/self/ns/net; touch /probe 2>&1",
    )
    outside = cluster.on(web.node, "sh", "-c", "readlink /proc/self/ns/pid /proc/self/ns/net")
    namespaces = inside.stdout.split()[:5]
    expect(len(namespaces) == 5, inside.stdout + inside.stderr)
    expect(not set(namespaces) & set(outside.stdout.split()), "shares a namespace with its node")
    expect("Read-only file system" in inside.stdout, f"root is writable: {inside.stdout}")
    return "own pid, mnt, uts, ipc, net; root read-only"


def _every_port(cluster: Cluster) -> str:
    instances = cluster.instances("web")
    for instance in instances:
        seen = cluster.curl("m1", f"http://{instance.address}/")
        expect(seen == [instance.task_id], f"{instance.address}: {seen}")
    return ", ".join(f"{instance.address}:80" for instance in instances)


def show_names(cluster: Cluster, report: Report) -> None:
    """Ask every node's resolver, and a container's."""
    addresses = sorted(instance.address for instance in cluster.instances("web"))

    def agreed(name: str, kind: str, holds: Callable[[list[str]], bool]) -> list[str]:
        """Wait until every node's resolver says what holds; return what the first says."""
        said: list[list[str]] = []

        def look() -> str | None:
            said[:] = [cluster.dig(node, name, kind) for node in NODES]
            return "" if all(map(holds, said)) else None

        until(look, seconds=WAIT_SECONDS, what=f"{name} on {', '.join(NODES)}")
        return said[0]

    def everywhere(name: str) -> str:
        agreed(name, "A", lambda seen: seen == addresses)
        return ", ".join(addresses)

    def srv() -> str:
        seen = agreed(SRV, "SRV", lambda seen: len(seen) == len(addresses))
        expect(all(line.split()[2] == "80" for line in seen), f"{seen}")
        return seen[0]

    def vip() -> str:
        agreed(L4LB, "A", lambda seen: len(seen) == 1)
        seen = {tuple(cluster.dig(node, L4LB)) for node in NODES}
        expect(len(seen) == 1, f"{seen}")
        return f"{next(iter(seen))[0]} on every node"

    def inside() -> str:
        [client, *_] = cluster.instances("client")
        done = cluster.inside(client, "dig", "+short", CONTAINERIP)
        seen = sorted(done.stdout.split())
        expect(seen == addresses, f"{seen} {done.stderr}")
        return f"by its own resolv.conf, in {client.address}"

    for name in (CONTAINERIP, MESOS):
        report.prove("names", name, partial(everywhere, name))
    report.prove("names", f"{SRV} SRV", srv)
    report.prove("names", L4LB, vip)
    report.prove("names", "a container resolves them too", inside)


def show_vip(cluster: Cluster, report: Report) -> None:
    """Reach the VIP from everywhere, spread over all instances."""
    webs, url = cluster.instances("web"), f"http://{L4LB}/"

    def spread(ask: Callable[[], list[str]]) -> str:
        bodies = ask()
        counts = Counter(bodies)
        expect(len(bodies) == REQUESTS, f"{len(bodies)} of {REQUESTS} requests worked")
        expect(set(counts) == {web.task_id for web in webs}, f"spread: {sorted(counts.values())}")
        return f"{REQUESTS} requests: " + " + ".join(map(str, sorted(counts.values())))

    def serve(node: str) -> str | None:
        return (
            "" if set(cluster.curl(node, url, times=20)) == {web.task_id for web in webs} else None
        )

    for node in NODES:
        until(partial(serve, node), seconds=WAIT_SECONDS, what=f"all of web by the VIP on {node}")
        report.prove(
            "VIP",
            f"from node {node}",
            partial(spread, partial(cluster.curl, node, url, times=REQUESTS)),
        )
    for client in cluster.instances("client"):
        same = sum(web.node == client.node for web in webs)
        report.prove(
            "VIP",
            f"from a container on {client.node} ({same} backends beside it)",
            partial(spread, partial(cluster.curl_in, client, url, times=REQUESTS)),
        )
    report.prove(
        "VIP",
        "from a backend, itself included",
        partial(spread, partial(cluster.curl_in, webs[0], url, times=REQUESTS)),
    )


def show_walls(cluster: Cluster, report: Report) -> None:
    """Try to cross between networks; open one port one way; close it again."""
    clients, dbs = cluster.instances("client"), cluster.instances("db")
    webs = cluster.instances("web")

    def answers(source: Instance, target: Instance, port: int) -> bool:
        url = f"http://{target.address}:{port}/"
        return bool(cluster.curl_in(source, url, seconds=1.0))

    def closed(sources: list[Instance], targets: list[Instance], *ports: int) -> str:
        tried = 0
        for source in sources:
            for target in targets:
                for port in ports:
                    expect(
                        not answers(source, target, port),
                        f"{source.address} reaches {target.address}:{port}",
                    )
                    tried += 1
        return f"{tried} ways tried, same agent and across"

    def opened() -> str:
        return until(
            lambda: (
                "dcos to blue, tcp 5432"
                if all(answers(c, d, 5432) for c in clients for d in dbs)
                else None
            ),
            seconds=WAIT_SECONDS,
            what="5432 open",
        )

    def allow() -> str:
        body = {
            "name": "demo",
            "source": "dcos",
            "destination": "blue",
            "protocol": "tcp",
            "ports": "5432",
            "reason": "the demo shows it",
        }
        cluster.master("POST", "/v1/policies", body)
        return opened()

    def remove() -> str:
        cluster.master("DELETE", "/v1/policies/demo")
        return until(
            lambda: None if any(answers(c, d, 5432) for c in clients for d in dbs) else "closed",
            seconds=WAIT_SECONDS,
            what="5432 closed",
        )

    report.prove("walls", "dcos can't reach blue", lambda: closed(clients, dbs, 5432, 5433))
    report.prove("walls", "blue can't reach dcos", lambda: closed(dbs, webs, 80))
    report.measure("walls", "a rule by the API opens one port", allow)
    report.prove("walls", "and no other port", lambda: closed(clients, dbs, 5433))
    report.prove("walls", "and not the way back", lambda: closed(dbs, webs, 80))
    report.measure("walls", "removing the rule closes it", remove)
    report.prove("walls", "everywhere", lambda: closed(clients, dbs, 5432, 5433))
