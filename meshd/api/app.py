"""The application: routes, access rules and answers to errors, put together."""

from __future__ import annotations

from quart_trio import QuartTrio

from meshd.api.access import Access, own_hosts
from meshd.api.alerts import Alerts
from meshd.api.catalogue import Catalogue
from meshd.api.categories import Categories
from meshd.api.compaction import Compaction
from meshd.api.conflicts import Conflicts
from meshd.api.events import Events
from meshd.api.handout import Handout
from meshd.api.health import Health
from meshd.api.hivemind import Hivemind
from meshd.api.instance import Instance
from meshd.api.intake import Intake
from meshd.api.leadership import Leadership
from meshd.api.metrics import Metrics
from meshd.api.phases import Phases
from meshd.api.problems import Problems
from meshd.api.projects import Projects
from meshd.api.settings import Settings
from meshd.api.standings import Standings
from meshd.api.work import Work

MAX_BODY_BYTES = 2 * 1024 * 1024  # the largest document known has 32 KB; peers take frames of 4 MiB
BODY_WITHIN_S = 30  # for the whole body: a slow line takes it, a client that drips bytes does not keep its place


def create_app(instance: Instance) -> QuartTrio:
    """Build the application of one instance; `server.serve` runs it."""
    app = QuartTrio("meshd.api", static_folder=None, template_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES, BODY_TIMEOUT=BODY_WITHIN_S, PROPAGATE_EXCEPTIONS=False)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    access = Access(instance.api_key, own_hosts(instance.configuration, instance.hostname))
    app.before_request(access.before_request)
    catalogue = Catalogue(str(instance.configuration.repo_root))
    Problems(MAX_BODY_BYTES).add_to(app)
    Health(instance).add_to(app)
    Hivemind(instance).add_to(app)
    Leadership(instance).add_to(app)
    Projects(instance, catalogue).add_to(app)
    Categories(instance).add_to(app)
    handout = Handout(instance)
    Phases(instance, Standings(), handout).add_to(app)
    Work(instance, handout).add_to(app)
    Intake(instance).add_to(app)
    Events(instance).add_to(app)
    Conflicts(instance).add_to(app)
    Settings(instance).add_to(app)
    Alerts(instance).add_to(app)
    Compaction(instance).add_to(app)
    Metrics(instance).add_to(app)
    return app
