"""What a browser gets: ``/`` leads to a small page at ``/ui/``, ``/help`` lists the paths.

The page shows what the REST API says and changes nothing; ``phalanx app`` does that.
"""

from collections import defaultdict
from typing import Any

from aiohttp import web

from phalanx.marathon.api.answer import as_json

# The script is in the page itself, and nothing may come from anywhere else.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"
)
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Marathon</title>
<style>
body { font: 14px sans-serif; margin: 2em } table { border-collapse: collapse; margin-bottom: 2em }
th, td { text-align: left; padding: .2em 1em .2em 0; border-bottom: 1px solid #ccc }
</style></head><body>
<h1>Marathon</h1><p id="state">reading</p>
<h2>Apps</h2><table id="apps"></table>
<h2>Deployments</h2><table id="deployments"></table>
<h2>Waiting</h2><table id="queue"></table>
<p><a href="../help">Paths of the REST API</a></p>
<script>
function show(id, heads, rows) {
  const table = document.getElementById(id);
  table.replaceChildren();
  for (const [kind, cells] of [["th", heads], ...rows.map(row => ["td", row])]) {
    const line = table.insertRow();
    for (const cell of cells) {
      const box = document.createElement(kind);
      box.textContent = cell;
      line.append(box);
    }
  }
}
async function read(path) {
  const answer = await fetch(".." + path);
  if (!answer.ok) throw new Error(path + ": status " + answer.status);
  return answer.json();
}
async function look() {
  let said = "";
  try {
    const [apps, deployments, queue] = await Promise.all(
      ["/v2/apps", "/v2/deployments", "/v2/queue"].map(read));
    show("apps", ["id", "running", "healthy", "unhealthy", "instances", "cpus", "mem", "version"],
      apps.apps.map(app => [app.id, app.tasksRunning, app.tasksHealthy, app.tasksUnhealthy,
        app.instances, app.cpus, app.mem, app.version]));
    show("deployments", ["id", "step", "apps and pods"], deployments.map(one =>
      [one.id, one.currentStep + " of " + one.totalSteps,
        [...one.affectedApps, ...one.affectedPods].join(" ")]));
    show("queue", ["id", "instances", "refused for"], queue.queue.map(one =>
      [(one.app || one.pod).id, one.count,
        one.processedOffersSummary.rejectSummaryLastOffers.filter(why => why.declined)
          .map(why => why.reason + " (" + why.declined + ")").join(", ")]));
  } catch (error) {
    said = String(error);
  }
  document.getElementById("state").textContent = said;
  setTimeout(look, 5000);
}
look();
</script></body></html>
"""


async def to_page(request: web.Request) -> web.Response:
    """Lead a browser to the page."""
    return web.Response(status=302, headers={"Location": "/ui/"})


async def get_page(request: web.Request) -> web.Response:
    """Answer the page."""
    headers = {"Content-Security-Policy": _POLICY}
    return web.Response(text=_PAGE, content_type="text/html", headers=headers)


async def get_help(request: web.Request) -> web.Response:
    """Answer every path with its methods."""
    methods: dict[str, set[str]] = defaultdict(set)
    for route in request.app.router.routes():
        if route.resource is not None:
            methods[_readable(route.resource)].add(route.method)
    paths = [{"path": path, "methods": sorted(methods[path])} for path in sorted(methods)]
    return as_json({"paths": paths})


def _readable(resource: web.AbstractResource) -> str:
    """Return the path of a route without patterns, such as ``/v2/apps/{id}``."""
    info: Any = resource.get_info()
    path = str(info.get("formatter") or info.get("path"))
    return path.replace("{slash}", "").replace("{root}", "")
