"""Fake credentials by kind.

They are assembled at run time, so that no secret scanner reports this file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

HEX = "0123456789abcdef" * 8
MIXED = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY" * 5
JWT_HEADER = "eyJ" + "hbGciOiJIUzI1NiJ9"
JWT_PAYLOAD = "eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0"


def private_key(label: str = "", *, newline: str = "\n", headers: str = "", end: bool = True) -> str:
    """A PEM block of four lines."""
    label = f"{label} PRIVATE" if label else "PRIVATE"
    lines = [f"-----{'BEGIN'} {label} KEY-----", *headers.splitlines(), *[MIXED[:64]] * 4]
    return newline.join([*lines, f"-----{'END'} {label} KEY-----"] if end else lines)


CREDENTIALS: list[tuple[str, str]] = [
    ("anthropic-key", "sk-" + "ant-api03-" + MIXED[:93] + "AA"),
    ("anthropic-key", "sk-" + "ant-oat01-" + MIXED[:40] + "-_" + MIXED[:40]),
    ("openrouter-key", "sk-" + "or-v1-" + HEX[:64]),
    ("langfuse-key", "sk-" + "lf-29243fa3-f296-5e3b-9266-7052b77cbfe9"),
    ("langsmith-key", "lsv2" + "_pt_" + HEX[:32] + "_" + HEX[:10]),
    ("openai-key", "sk-" + "proj-" + MIXED[:74] + "T3Blbk" + "FJ" + MIXED[:74]),
    ("openai-key", "sk-" + "svcacct-" + MIXED[:74]),
    ("openai-key", "sk-" + MIXED[:20] + "T3Blbk" + "FJ" + MIXED[:20]),
    ("openai-key", "sk-" + HEX[:32]),
    ("groq-key", "gsk" + "_" + MIXED[:52]),
    ("xai-key", "xai" + "-" + MIXED[:80]),
    ("perplexity-key", "pplx" + "-" + MIXED[:48]),
    ("replicate-token", "r8" + "_" + MIXED[:37]),
    ("nvidia-key", "nvapi" + "-" + MIXED[:64]),
    ("huggingface-token", "hf" + "_" + MIXED[:34]),
    ("google-key", "AI" + "za" + "Sy" + MIXED[:33]),
    ("google-key", "AQ" + ".Ab" + MIXED[:48]),
    ("google-key", "ya29" + "." + MIXED[:100]),
    ("google-key", "GOCSPX" + "-" + MIXED[:28]),
    ("aws-access-key", "AK" + "IA" + "IOSFODNN7ABCDEFG"),
    ("aws-access-key", "AS" + "IA" + "IOSFODNN7ABCDEFG"),
    ("github-token", "gh" + "p_" + MIXED[:36]),
    ("github-token", "gh" + "s_" + f"12345_{JWT_HEADER}.{JWT_PAYLOAD}.{MIXED[:43]}"),
    ("github-token", "github" + "_pat_" + MIXED[:22] + "_" + MIXED[:59]),
    ("gitlab-token", "gl" + "pat-" + MIXED[:20]),
    ("gitlab-token", "gl" + "rt-" + MIXED[:27] + ".01.abcdefghi"),
    ("slack-token", "xo" + "xb-" + "123456789012-123456789012-" + MIXED[:24]),
    ("slack-token", "xoxe" + ".xo" + "xp-1-" + MIXED[:80]),
    ("slack-token", "xa" + "pp-1-A0123456789-123456789012-" + HEX[:64]),
    ("slack-webhook", "hooks.sl" + "ack.com/services/T0123ABCD/B0123ABCD/" + MIXED[:24]),
    ("stripe-key", "sk" + "_live_" + MIXED[:24]),
    ("stripe-key", "rk" + "_test_" + MIXED[:24]),
    ("stripe-key", "wh" + "sec_" + MIXED[:32]),
    ("npm-token", "npm" + "_" + MIXED[:36]),
    ("pypi-token", "pypi" + "-AgEI" + MIXED[:160]),
    ("service-token", "do" + "p_v1_" + HEX[:64]),
    ("service-token", "dp" + ".pt." + MIXED[:43]),
    ("service-token", "da" + "pi" + HEX[:32]),
    ("service-token", "shp" + "at_" + HEX[:32]),
    ("service-token", "hv" + "s." + MIXED[:95]),
    ("service-token", MIXED[:14] + ".atlas" + "v1." + MIXED[:64]),
    ("service-token", "pu" + "l-" + HEX[:40]),
    ("service-token", "PM" + "AK-" + HEX[:24] + "-" + HEX[:34]),
    ("service-token", "pscale" + "_tkn_" + MIXED[:43]),
    ("service-token", "lin" + "_api_" + MIXED[:40]),
    ("service-token", "nt" + "n_12345678901" + MIXED[:35]),
    ("service-token", "gl" + "sa_" + MIXED[:32] + "_0123abcd"),
    ("service-token", "rubygems" + "_" + HEX[:48]),
    ("service-token", "AGE-SECRET" + "-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2),
    ("service-token", "sntry" + "u_" + HEX[:64]),
    ("service-token", "fm" + "2_" + MIXED[:120]),
    ("service-token", "HRKU" + "-AA" + MIXED[:58]),
    ("service-token", "ABSK" + MIXED[:130]),
    ("service-token", "aB3" + "8Q~" + MIXED[:34]),
    ("service-token", "sha256" + "~" + MIXED[:43]),
    ("trajectories-key", MIXED[:12] + "." + MIXED[12:44]),
    ("sendgrid-key", "SG" + "." + MIXED[:22] + "." + MIXED[:43]),
    ("jwt", f"{JWT_HEADER}.{JWT_PAYLOAD}.{MIXED[:43]}"),
    ("jwt", f"{JWT_HEADER}.{JWT_PAYLOAD}."),
    ("jwt", f"{JWT_HEADER}..{MIXED[:16]}.{MIXED[:60]}.{MIXED[:22]}"),
    ("private-key", private_key()),
    ("private-key", private_key("OPENSSH")),
    ("private-key", private_key("RSA", newline="\\n")),
    ("private-key", private_key("EC", newline="\r\n    12→")),
    ("private-key", private_key("RSA", headers=f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,{HEX[:32]}\n")),
    ("private-key", private_key(end=False)),
]
"""Whole credentials, each with its kind."""

IN_CONTEXT: list[tuple[str, str, str, str]] = [
    ("bearer-token", "curl -H 'Authorization: Bearer ", MIXED[:40], "' https://api.example.com"),
    ("bearer-token", "bearer ", HEX[:40], ""),
    ("bearer-token", "authorization=Bearer%20", "29243fa3-f296-5e3b-9266-7052b77cbfe9", "&x=1"),
    ("basic-auth", "Authorization: Basic ", "dXNlcjpwYXNzd29yZA==", " sent"),
    ("basic-auth", '{"Authorization": "Basic ', "dXNlcjpwYXNzd29yZA==", '"}'),
    ("aws-secret-key", "aws_secret_access_key = ", "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYABCDEFGHIJ", "\n"),
    ("aws-secret-key", 'export AWS_SECRET_ACCESS_KEY="', "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYABCDEFGHIJ", '"'),
    ("api-key", "curl -H 'X-Api-Key: ", MIXED[:24], "' https://api.example.com"),
    ("api-key", '{"x-goog-api-key": "', MIXED[:24], '"}'),
    ("api-key", "HTTP_X_AUTH_TOKEN=", HEX[:32], ""),
    ("api-key", "PRIVATE-TOKEN: ", MIXED[:20], ""),
    ("api-key", "Ocp-Apim-Subscription-Key: ", HEX[:32], ""),
    ("api-key", "Authorization: Token ", HEX[:40], " sent"),
    ("api-key", "Authorization: ", MIXED[:32], " sent"),
    ("api-key", '{"authorization": "', HEX[:40], '"}'),
    ("api-key", "X-Api-Key:\t", MIXED[:24], "\n"),
    ("api-key", "('x-api-key', '", MIXED[:24], "')"),
    ("api-key", "(b'x-api-key', b'", MIXED[:24], "')"),
    ("cookie", "Cookie:\t", "sid=" + HEX[:32], "\n"),
    ("cookie", "curl -s -b '", "sid=" + HEX[:32], "' https://api.example.com"),
    ("cookie", 'curl https://api.example.com --cookie "', "sid=" + HEX[:32], '"'),
    ("cookie", "Cookie: ", "theme=dark; sessionid=" + HEX[:32] + "; csrftoken=" + MIXED[:32], ""),
    ("cookie", "< set-cookie: ", "sid=s%3A" + MIXED[:32] + "; Path=/", "; HttpOnly"),
    ("cookie", '{"Cookie": "', "token=29243fa3-f296-5e3b-9266-7052b77cbfe9", '"}'),
    ("azure-key", "AccountName=runs;AccountKey=", MIXED[:86] + "==", ";EndpointSuffix=core.windows.net"),
    ("azure-key", "SharedAccessKeyName=all;SharedAccessKey=", MIXED[:43] + "=", ""),
    (
        "azure-key",
        "https://runs.blob.core.windows.net/a?sv=2026-01-01&sig=",
        MIXED[:41] + "%2B" + MIXED[:1] + "%3D",
        "&se=2",
    ),
    ("url-password", "cannot reach postgres://app:", "hunter2", "@db.internal:5432/runs?sslmode=require"),
    ("url-password", "redis://:", "p@ss:w0rd", "@10.0.0.7:6379/2, retrying"),
    ("url-password", "https://user:", "s%40cret", "@example.com"),
    ("url-password", "a+b://u:", "x1", "@h"),
]
"""Credentials that are recognised by the text before them: kind, text before, credential, text
after."""

NO_CREDENTIALS: list[str] = [
    "anthropic/claude-sonnet-4",
    "anthropic/claude-3-5-sonnet-20241022-v2:0",
    "openrouter/anthropic/claude-opus-4.1:thinking",
    "us.anthropic.claude-sonnet-4-20250514-v1:0",
    "ft:gpt-4o-mini-2024-07-18:my-org:custom-suffix:AB12cd34",
    "hf_transfer_with_a_very_long_name_that_has_words",
    "29243fa3-f296-5e3b-9266-7052b77cbfe9",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    "/srv/project/node_modules/.bin/npm_config_registry/src/task-runner/disk-usage-of-everything.py",
    r"C:\Users\somebody\npm_modules\risk-assessment-of-the-whole-project",
    "task-0123456789abcdef0123456789abcdef0123",
    "https://example.com/a/b?c=d#e",
    "http://localhost:8080/path@version",
    "ssh://git@github.com:22/org/repo.git",
    "git@github.com:org/repo.git",
    "see http://a.example:80 or write to somebody@example.com",
    "postgres://${USER}:${PASSWORD}@$HOST/db",
    "postgres://{user}:{password}@{host}/db",
    "mysql://%s:%s@%s/db",
    "https://user:***@example.com",
    "https://user:@example.com",
    "the bearer of this letter is to be trusted",
    "Bearer authentication-middleware-of-the-gateway",
    "bearer org.springframework.security.oauth2.server",
    'WWW-Authenticate: Bearer realm="trajectories"',
    "use sk-ant-... or ghp_xxx as the key; sk-proj-… too",
    "grep -r '-----BEGIN RSA PRIVATE KEY-----' src/components/authentication/handlers.py",
    "-----BEGIN PUBLIC KEY-----\n" + MIXED[:64] + "\n-----END PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----\n" + MIXED[:64] + "\n-----END CERTIFICATE-----",
    "eyJhbGciOiJIUzI1NiJ9 is how a header begins",
    "AKIAISNOTAKEY",
    "[redacted:jwt]",
    "https://user:[redacted:url-password]@example.com",
    "aws_secret_access_key is not set",
    "Authorization: Basic",
    "cache_npm_da39a3ee5e6b4b0d3255bfef95601890afd80709 and model_hf_0123456789abcdef0123456789abcdef0123",
    "HomeSettings.5eb63bbbe01eeed093cb22bb8f5acdc3.js",
    "my.long.name.of.ComponentFoo.ConfigurationPropertiesAutoBinds",
    "X-Api-Key: your-api-key-goes-here",
    '["x-api-key", "x-amz-content-sha256", "authorization"]',
    "Authorization: see-rfc-9110-section-11-6-2",
    "authorization: AuthenticatedUsersOfThisTenant",
    "C:\\cookie\\tabs=0123456789abcdef0123",
    "curl -b cookies-2026-11-28.txt https://api.example.com",
    "git checkout -b 'fix=1234567890abcdef1234'",
    "api-key: ${API_KEY}",
    "x-request-key: none",
    "Cookie: theme=dark; consent=accepted",
    "document.cookie = `${name}=; Max-Age=-99999999`",
    "the cookie = a jar of 1234567890123456 crumbs",
    "AccountKey=$(az storage account keys list)",
    "https://cdn.example.com/app.js?sig=da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "sha256~ is how a token of OpenShift begins",
    "\x1b[33mda39a3ee5e6b4b0d3255bfef95601890afd80709\x1b[m HEAD -> main",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709\nsk-\n356a192b7913b04c54574d18c28d46e6395428ab\n",
    "task-\nsk-0123456789\n29243fa3-f296-5e3b-9266-7052b77cbfe9",
    "https://example.com/a%2Fb%3Fc%3Dd?e=%25F0%259F%2598%2580",
    "👩\u200d💻 ❤\ufe0f co\u00adop\u00ader\u00ada\u00adtion",
]
"""Texts that look like credentials and are none."""


def _split(text: str, between: str) -> str:
    return between.join((text[:3], text[3:9], text[9:]))


DISGUISES: dict[str, Callable[[str], str]] = {
    "colour before": lambda text: f"\x1b[32m{text}\x1b[0m",
    "colour after a word": lambda text: f"key\x1b[32m{text}\x1b[0m",
    "grep --color": lambda text: f"KEY=\x1b[01;31m\x1b[K{text[:4]}\x1b[m\x1b[K{text[4:]}",
    "colour as source code": lambda text: f"\\x1b[1;31m{text[:5]}\\033[0m{text[5:]}",
    "colour without its escape": lambda text: f"[01;31m[K{text[:4]}[m[K{text[4:]}".replace("[m[K", "[0m[K"),
    "colour in JSON in JSON": lambda text: json.dumps(json.dumps(f"\x1b[32m{_split(text, chr(27) + '[1m')}")),
    "zero-width space": lambda text: _split(text, "\u200b"),
    "soft hyphen": lambda text: _split(text, "\u00ad"),
    "word joiner and tags": lambda text: _split(text, "\u2060\U000e0041"),
    "bidirectional override": lambda text: _split(text, "\u202d"),
    "variation selector": lambda text: _split(text, "\ufe0f\U000e0100"),
    "zero-width space in JSON": lambda text: _split(text, "\\u200b"),
    "control character": lambda text: _split(text, "\x7f\x01"),
    "name before": lambda text: f"TOKEN_{text}",
    "percent-encoded": lambda text: "".join(f"%{ord(char):02X}" for char in text),
    "percent-encoded signs": lambda text: (
        quote(text, safe="").replace("_", "%5F").replace("-", "%2d").replace(".", "%2E")
    ),
    "percent-encoded zero-width space": lambda text: _split(text, "%E2%80%8B"),
    "percent-encoded soft hyphen, twice": lambda text: _split(text, "%25c2%25ad"),
    "percent-encoded colour": lambda text: _split(quote(text, safe=""), "%1B%5B1;32m"),
    "percent-encoded twice": lambda text: quote("".join(f"%{ord(char):02x}" for char in text)),
}
"""Ways in which a token of one line is hidden, by name."""


HARD: list[str] = [
    "sk-ant-",
    "-----BEGIN PRIVATE KEY-----" + "A" * 24,
    "-----BEGIN PRIVATE KEY-----Ab: ",
    JWT_HEADER + ".",
    JWT_HEADER + "-",
    "https://a:",
    "bearer bearer",
    "bearer " + "a" * 24 + " ",
    "@:",
    "\\n\\",
    "\x1b[32mab",
    "\u200bsk-",
    "%41a",
    "%2541a",
    "ghp_aaaaaaa1\n",
    "cookie: a=b; ",
    "cookie=;cookie",
    "x-api-key: a",
    "a://:b@",
    "curl -b",
    "curl -b 'a=",
    "('x-api-key', ",
    "authorization: basic ",
    "api_org_",
    "gh" + "p_" + MIXED[:36] + " ",
]
"""Beginnings of credentials, which a search may read again and again."""
