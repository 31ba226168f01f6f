"""Every way into the app, in tests of a project that does not isolate its store."""

import json
import threading
import urllib.request

from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import LiveServerTestCase, RequestFactory, TestCase

from myproject import wsgi  # starts the relay outside of tests
from trajectories.models import ApiKey, Tenant, Trajectory
from trajectories.services import ingest
from trajectories.storage.store import get_store
from trajectories.testing import isolated_store

PATH = "/store/v1/agent/trajectories"
RUN = {"request_summary": "Add a login page", "phases": [{"phase_name": "spec"}]}


def key_of_team():
    tenant = Tenant.objects.create(slug="team")
    return ApiKey.objects.issue(tenant=tenant, name="tests", scopes=["record", "read", "export", "admin"])[1]


def relays():
    return [thread for thread in threading.enumerate() if thread.name == "trajectories-relay"]


class WithoutStore(TestCase):
    def post(self):
        headers = {"Authorization": f"Bearer {key_of_team()}"}
        return self.client.post(PATH, RUN, content_type="application/json", headers=headers)

    def test_a_refused_request_gets_an_error_with_a_remedy(self):
        with self.assertRaisesMessage(ImproperlyConfigured, "trajectories.testing.isolated_store"):
            self.post()

    def test_code_and_commands_are_refused_too(self):
        for use in (
            lambda: ingest.record(get_store(), "team", json.dumps(RUN).encode()),
            lambda: call_command("relay", "--drain"),
            lambda: call_command("prune", "--older-than", "1d"),
        ):
            with self.assertRaisesMessage(ImproperlyConfigured, "trajectories_store"):
                use()

    def test_a_request_that_uses_no_store_is_answered(self):
        self.assertEqual(self.client.get("/store/v1/openapi.json").status_code, 200)
        self.assertEqual(self.client.get("/store/v1/agent/trajectories/none/").status_code, 404)
        self.assertEqual(relays(), [])

    def test_the_wsgi_application_starts_no_relay(self):
        environ = RequestFactory().get("/store/health/live").environ
        statuses = []
        b"".join(wsgi.application(environ, lambda status, headers: statuses.append(status)))
        self.assertEqual((statuses, relays()), (["200 OK"], []))


class Live(LiveServerTestCase):
    @isolated_store(kwarg_name="store")
    def test_a_live_server_uses_the_store_of_the_test(self, store):
        headers = {"Authorization": f"Bearer {key_of_team()}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.live_server_url + PATH, json.dumps(RUN).encode(), headers)
        with urllib.request.urlopen(request) as response:
            self.assertEqual(response.status, 201)
        self.assertEqual(relays(), [])
        self.assertEqual(store.deliver(), 1)
        self.assertEqual(Trajectory.objects.count(), 1)


@isolated_store(attr_name="store")
class WithStore(TestCase):
    def setUp(self):
        self.client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {key_of_team()}"

    def post(self, **more):
        response = self.client.post(PATH, RUN | more, content_type="application/json")
        self.assertEqual(response.status_code, 201)
        return response.json()

    def listed(self):
        page = self.client.get(PATH).json()
        return [record["id"] for record in page["data"]]

    def test_answers_are_complete_without_redis(self):
        record = self.post()
        stats = self.client.get(f"{PATH}/stats").json()
        self.assertEqual((stats["count"], stats["window"]["complete"]), (1, True))
        self.store.deliver()
        self.assertEqual(self.listed(), [record["id"]])
        self.assertEqual(self.client.get(f"{PATH}/stats").json()["window"]["complete"], True)

    def test_an_export_needs_pending_rows_to_be_delivered(self):
        self.post()
        self.assertEqual(self.client.get(f"{PATH}/export").status_code, 503)
        self.store.deliver()
        lines = self.client.get(f"{PATH}/export").getvalue().splitlines()
        self.assertEqual(len(lines), 1)

    def test_a_deletion_reaches_the_archive(self):
        delivered, waiting = self.post(), self.post()
        self.store.deliver()
        for record in (delivered, waiting):
            self.assertEqual(self.client.delete(f"{PATH}/{record['id']}").status_code, 200)
        self.store.deliver()
        self.assertEqual((self.listed(), Trajectory.objects.count()), ([], 0))

    def test_the_relay_command_delivers_without_a_broker(self):
        self.post()
        call_command("relay", "--drain", stderr=open("/dev/null", "w"))  # noqa: SIM115, PTH123
        self.assertEqual(Trajectory.objects.count(), 1)

    def test_a_second_delivery_finds_nothing(self):
        self.post()
        self.assertEqual(self.store.deliver(), 1)
        self.assertEqual(self.store.deliver(), 0)

    def test_changed_settings_keep_the_store(self):
        self.post()
        with self.settings(TRAJECTORIES={"HOT_MAX_RECORDS": 5}):
            self.assertEqual(len(self.listed()), 1)
            self.post()
            self.assertEqual(self.store.deliver(), 2)
        self.assertEqual(len(self.listed()), 2)
