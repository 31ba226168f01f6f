"""The functions of docs/authentication.md."""

import time

import jwt
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client, TestCase
from rest_framework.authtoken.models import Token

from trajectories.testing import isolated_store

PATH = "/store/v1/agent/trajectories"
RUN = {"request_summary": "Add a login page", "phases": [{"phase_name": "spec"}]}


@isolated_store()
class Base(TestCase):
    function: str

    def setUp(self):
        self.user = User.objects.create_user("alice", password="secret")
        changed = settings.TRAJECTORIES | {"TENANT_FROM_REQUEST": f"myproject.tenants.{self.function}"}
        self.enterContext(self.settings(TRAJECTORIES=changed))
        self.client = Client(enforce_csrf_checks=True)

    def post(self, **headers):
        return self.client.post(PATH, RUN, content_type="application/json", headers=headers)

    def refused(self, response):
        return response.status_code, response.json()["error"]["code"]


class SessionTests(Base):
    function = "of_session"

    def test_a_session_reads_and_records_with_the_token_of_its_pages(self):
        self.client.force_login(self.user)
        self.assertEqual(self.client.get(PATH).status_code, 200)
        token = "t" * 32
        self.client.cookies["csrftoken"] = token
        self.assertEqual(self.post(**{"X-CSRFToken": token}).status_code, 201)

    def test_a_foreign_page_cannot_record_or_delete(self):
        self.user.is_staff = True
        self.user.save()
        self.client.force_login(self.user)
        self.assertEqual(self.refused(self.post()), (403, "permission_denied"))
        self.assertEqual(self.client.delete(f"{PATH}?project=x&dry_run=1").status_code, 403)

    def test_without_a_session_there_is_nothing(self):
        self.assertEqual(self.refused(self.client.get(PATH)), (401, "not_authenticated"))

    def test_only_staff_may_delete(self):
        self.client.force_login(self.user)
        self.client.cookies["csrftoken"] = token = "t" * 32
        address, headers = f"{PATH}?project=x&dry_run=1", {"X-CSRFToken": token}
        self.assertEqual(self.refused(self.client.delete(address, headers=headers)), (403, "scope_missing"))
        self.user.is_staff = True
        self.user.save()
        self.assertEqual(self.client.delete(address, headers=headers).status_code, 200)


class TokenTests(Base):
    function = "of_token"

    def test_a_token_records_and_an_unknown_one_does_not(self):
        token = Token.objects.create(user=self.user)
        self.assertEqual(self.post(Authorization=f"Token {token.key}").status_code, 201)
        self.assertEqual(self.post(Authorization="Token nonsense").status_code, 401)
        self.assertEqual(self.refused(self.post()), (401, "not_authenticated"))


class JwtTests(Base):
    function = "of_jwt"

    def token(self, **more):
        claims = {"sub": "alice", "tenant": "team", "aud": "trajectories", "exp": time.time() + 60, **more}
        return f"Bearer {jwt.encode(claims, settings.JWT_KEY, algorithm='HS256')}"

    def test_a_token_has_the_scopes_that_it_names(self):
        self.assertEqual(self.post(Authorization=self.token(scopes=["record"])).status_code, 201)
        reader = self.token(scopes=["read", "admin"])
        self.assertEqual(self.refused(self.post(Authorization=reader)), (403, "scope_missing"))
        response = self.client.delete(f"{PATH}?project=x&dry_run=1", headers={"Authorization": reader})
        self.assertEqual(self.refused(response), (403, "scope_missing"))

    def test_an_expired_or_foreign_token_is_refused(self):
        for wrong in ({"exp": time.time() - 1}, {"aud": "another"}):
            self.assertEqual(self.post(Authorization=self.token(scopes=["record"], **wrong)).status_code, 401)
