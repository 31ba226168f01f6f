"""The shapes of credentials, each with the document that describes it.

Why not an existing scanner (Nov 2026, on 244 real records): detect-secrets 1.5.0 (Apache 2.0, May
2024) took 26 ms a record and reported 707 hashes and words in 60 of them as secrets.
kingfisher-secret-scanner 1.5.0 (Apache 2.0, in process, well maintained) had no false positive and
took 71 µs. But it adds 21 s to the start of a process (1.3 s with a cache on disk), 50 MiB to its
memory and 44 MiB to the installation. It also missed a bearer token and a password in a URL. Other
scanners start the gitleaks binary. So this module has a small table of its own.

Why RE2 and not ``re``: RE2 takes linear time for every text and pattern. It searches for all rules
at once in 2 ns a byte, where ``re`` takes 150. But a match of RE2 costs a microsecond, ten times as
much as one of ``re``, which looks at what RE2 has found. Linear time for all matches together
depends on the rules: the text that a rule reads beyond a match is bounded, or ends at a character
that no later match begins before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import re2

from trajectories.domain import search_text


@dataclass(frozen=True, slots=True)
class Rule:
    """One shape of a credential: RE2 over bytes.

    Its one group is replaced if ``is_credential`` accepts it and it is within a match of ``within``.
    """

    kind: str
    pattern: Any
    is_credential: Callable[[bytes], object] = bool
    within: Any = None
    """RE2; None for everywhere."""

    def matches(self, text: bytes, spans_of: Callable[[Any, bytes], Iterable[tuple[int, int]]]) -> Iterator[Any]:
        """Yield the matches within those of ``within``, in order, and None for each other one that was
        read. The text between two matches of ``within`` is read only up to the first match in it.

        Args:
            spans_of: returns where the matches of a pattern are. Rules share them.
        """
        if self.within is None:
            yield from self.pattern.finditer(text)
        elif self.pattern.search(text):
            yield from self._matches_within(text, spans_of(self.within, text))

    def _matches_within(self, text: bytes, spans: Iterable[tuple[int, int]]) -> Iterator[Any]:
        found: Iterator[Any] = iter(())
        match, done = None, 0
        for start, end in spans:
            if match is None or match.start(1) < start:
                found = self.pattern.finditer(text, max(start, done))
                match = next(found, None)
            while match and match.start(1) < end:
                yield match
                done = match.end()
                match = next(found, None)
            if not match:
                return
            yield None


class Group(NamedTuple):
    """Rules that one search for any of them passes over."""

    any: Any
    rules: tuple[Rule, ...]


def _is_no_hash(token: bytes) -> bool:
    """Reject a name before a hash: ``cache_npm_da39a3ee…``. A random token has other letters."""
    return not _NAME_AND_HASH.fullmatch(token)


def _is_key_of_this_store(token: bytes) -> bool:
    """Reject names of files and classes, and hashes: they lack a digit, or a case of letters."""
    secret = token[13:]
    return secret.lower() != secret != secret.upper() and bool(_DIGIT.search(token))


def _is_password(text: bytes) -> bool:
    """Reject placeholders of templates: ``$PASSWORD``, ``{password}``, ``%s``, ``***``."""
    return not _TEMPLATE.fullmatch(text)


def _is_login(text: bytes) -> object:
    """Reject ``user:`` and ``1000:1000`` and the placeholders of templates. A name alone may be a key."""
    user, _, password = text.partition(b":")
    if not password:
        return _RANDOM_WORD.match(user)
    return _is_password(password) and password != b"$" and not (user + password).isdigit()


# Python's own: a match costs a quarter of RE2's, and each alternative has one way to match.
_NAME_AND_HASH = re.compile(rb"(?:npm|hf|r8|gsk)_[0-9a-f]+")
_TEMPLATE = re.compile(rb"\$\w+|\$?\{+[^{}]*\}+|%\w+%?|\*+|x+|\.+")

_DIGIT = re.compile(rb"[0-9]")
# A word is long and has a digit, as in no ``bearer of.a.long/dotted.name``. Other words are passed over whole.
_WORD_ENDS = rb"./~+=;,%\s"
_RANDOM_WORD = re.compile(
    b"(?:(?![^E]{16})[^E]*+[E]++|[^E0-9]*+[E]++)*+(?=[^E]{16})[^E0-9]*+[0-9]".replace(b"E", _WORD_ENDS)
)
_BREAK = rb"(?:\\+[nrt]|[\s0-9|>+:\x80-\xff-])"
"""Between the lines of a private key: also a line number, as agents' tools print it."""
_KEY_LABEL = rb"[A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----"
_USERINFO = rb"\x00-\x20/?#\"'<>\\@\[\]"
"""Characters that a name or a password in a URL contains only if they are encoded."""


def _compiled(pattern: bytes, **options: bool) -> Any:
    chosen = re2.Options()
    # A byte is a character: shorter programs, and offsets in bytes.
    chosen.encoding = re2.Options.Encoding.LATIN1
    for name, value in options.items():
        setattr(chosen, name, value)
    return re2.compile(pattern, chosen)


def _rules() -> Iterable[Rule]:
    for kind, shape in _TOKENS:
        yield Rule(kind, _compiled(search_text.TOKEN_START + b"(" + shape + b")"), _is_no_hash)
    yield Rule(
        "trajectories-key",
        _compiled(search_text.TOKEN_START + rb"([A-Za-z0-9]{12}\.[A-Za-z0-9]{32})\b"),
        _is_key_of_this_store,
    )
    yield Rule("private-key", _compiled(_PRIVATE_KEY))
    yield Rule("aws-secret-key", _compiled(_AWS_SECRET_KEY))
    yield Rule("bearer-token", _compiled(_BEARER), _RANDOM_WORD.match)
    yield Rule("basic-auth", _compiled(_BASIC))
    yield Rule("api-key", _compiled(_API_KEY), _RANDOM_WORD.match)
    yield Rule("api-key", _compiled(_BARE_KEY), _RANDOM_WORD.match)
    yield Rule("cookie", _compiled(_COOKIE), _RANDOM_WORD.match)
    command = _compiled(_CURL)
    yield Rule("cookie", _compiled(_CURL_COOKIE), _RANDOM_WORD.match, command)
    yield Rule("basic-auth", _compiled(_CURL_LOGIN), _is_login, command)
    yield Rule("basic-auth", _compiled(_CURL_QUOTED_LOGIN), _is_login, command)
    yield Rule("azure-key", _compiled(_AZURE_KEY))
    yield Rule("url-password", _compiled(_URL_PASSWORD), _is_password)


# Prefixes come from the issuers' own documentation, named here. Where it gives no length, the rule
# has a lower bound, far above any word and below every known key. All following characters that the
# token may have belong to it.
_TOKENS = (
    # Anthropic, "API overview" and "Admin API": sk-ant-api03-…, sk-ant-admin01-…; OAuth tokens of
    # its CLI: sk-ant-oat01-….
    ("anthropic-key", rb"sk-ant-[\w-]{20,}"),
    # OpenRouter, "API keys": sk-or-v1-….
    ("openrouter-key", rb"sk-or-[\w-]{32,}"),
    # Langfuse, "API authentication": sk-lf- and a UUID. LangSmith, "Create an account and API key":
    # lsv2_pt_…, lsv2_sk_….
    ("langfuse-key", rb"sk-lf-[0-9a-f]{8}[\w-]{28,}"),
    ("langsmith-key", rb"lsv2_(?:pt|sk)_\w{32,}"),
    # OpenAI, "API keys" and "Admin API keys". Others with its API also issue the old form, without
    # a second prefix.
    ("openai-key", rb"sk-(?:(?:proj|svcacct|admin)-[\w-]{20,}|[A-Za-z0-9]{32,})"),
    ("groq-key", rb"gsk_[A-Za-z0-9]{40,}"),  # GroqCloud, "API keys"
    ("xai-key", rb"xai-[A-Za-z0-9]{60,}"),  # xAI, "Quickstart"
    ("perplexity-key", rb"pplx-[A-Za-z0-9]{40,}"),  # Perplexity, "API key management"
    ("replicate-token", rb"r8_[A-Za-z0-9]{37,}"),  # Replicate, "API tokens"
    ("nvidia-key", rb"nvapi-[\w-]{40,}"),  # NVIDIA NIM, "Getting started"
    ("huggingface-token", rb"(?:hf|api_org)_[A-Za-z0-9]{30,}"),  # Hugging Face, "User access tokens"
    # Google Cloud, "API keys" (AIza, 39 in all); Gemini API, "Using Gemini API keys" (AQ.Ab);
    # OAuth 2.0: access tokens (ya29.) and client secrets (GOCSPX-).
    ("google-key", rb"AIza[\w-]{35,}|AQ\.Ab[\w-]{30,}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}"),
    # AWS, IAM user guide, "Unique ID prefixes": the four that are credentials; 16 of base32 follow.
    ("aws-access-key", rb"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),
    # GitHub, "About authentication" (prefixes), changelogs of 2021-03-31 (letters and digits, up to
    # 255) and of 2026-05-15 (an app's number and a JWT follow ghs_).
    ("github-token", rb"ghs_[\w.-]{36,}|gh[pour]_[A-Za-z0-9]{36,}|github_pat_\w{40,}"),
    # GitLab, "Token overview", "Token prefixes".
    ("gitlab-token", rb"gl(?:pat|oas|dt|rtr?|cbt|ptt|ft|imt|agent|wt|soat|ffct)-[\w.-]{20,}"),
    # Slack, "Tokens" (configuration tokens have xoxe.xoxp-) and "Sending messages using incoming
    # webhooks".
    ("slack-token", rb"(?:xoxe\.)?xox[a-z]-[\w-]{10,}|xapp-[\w-]{20,}|xwfp-[\w-]{20,}"),
    ("slack-webhook", rb"hooks\.slack\.com/(?:services|triggers|workflows)/[\w/]{20,}"),
    # Stripe, "API keys" (secret and restricted keys) and "Receive Stripe events in your webhook
    # endpoint".
    ("stripe-key", rb"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9]{24,}"),
    ("npm-token", rb"npm_[A-Za-z0-9]{36,}"),  # GitHub's blog on the format of npm's tokens, 2021-09-23
    ("pypi-token", rb"pypi-Ag[\w-]{50,}"),  # PyPI's help on API tokens: a macaroon in base64
    ("sendgrid-key", rb"SG\.[\w-]{20,24}\.[\w-]{39,}"),  # SendGrid, "API keys"
    # Other issuers, by the rules that gitleaks publishes (config/gitleaks.toml of July 2026, MIT), of which
    # those with a prefix of their own are used: DigitalOcean, Doppler, Databricks, Shopify, HashiCorp
    # Vault and Terraform, Pulumi, Postman, PlanetScale, Linear, Notion, Grafana, RubyGems, Cloudflare, age,
    # Sentry, Fly.io, Heroku, 1Password, Amazon Bedrock, Microsoft Entra, Artifactory, OpenShift, Prefect.
    (
        "service-token",
        rb"(?:do[opr]_v1_[a-f0-9]{32,}|dp\.pt\.[A-Za-z0-9]{32,}|dapi[a-f0-9]{32,}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32,}"
        rb"|hv[sb]\.[\w-]{32,}|[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{32,}|pul-[a-f0-9]{32,}|PMAK-[a-f0-9]{24}-[a-f0-9]{34,}"
        rb"|pscale_(?:tkn|pw|oauth)_[\w=.-]{32,}|lin_api_[A-Za-z0-9]{32,}|ntn_[0-9]{11}[A-Za-z0-9]{35,}"
        rb"|glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8,}|glc_[A-Za-z0-9+/]{32,}=*|rubygems_[a-f0-9]{32,}|v1\.0-[a-f0-9]{24}-[a-f0-9]{32,}"
        rb"|AGE-SECRET-KEY-1[A-Z0-9]{32,}|sntryu_[a-f0-9]{32,}|sntrys_eyJ[\w+/=]{32,}|fo1_[\w-]{32,}|fm(?:1[ar]|2)_[A-Za-z0-9+/]{32,}=*"
        rb"|HRKU-AA[\w-]{32,}|ops_eyJ[A-Za-z0-9+/]{32,}=*|ABSK[A-Za-z0-9+/]{32,}=*|\w{3}[0-9]Q~[\w~.-]{31,}|AKCp[A-Za-z0-9]{32,}"
        rb"|sha256~[\w-]{32,}|pnu_[A-Za-z0-9]{32,})[\w-]*",
    ),
    # RFC 7519 and RFC 7516: base64url of '{"', in three parts (the last is empty where unsigned),
    # or in five.
    ("jwt", rb"eyJ[\w-]{8,}(?:\.[\w-]*\.[\w-]{8,}\.[\w-]+\.[\w-]{8,}|\.[\w-]{8,}\.[\w-]*)"),
)

# RFC 7468, and RFC 1421 and RFC 9580 for header lines before the base64. Without an end line, the
# key is all that looks like base64.
_PRIVATE_KEY = (
    rb"(-----BEGIN "
    + _KEY_LABEL
    + rb"(?:"
    + _BREAK
    + rb"*[A-Za-z-]{1,20}: [^\"\\\n]*)*"
    + _BREAK
    + rb"*[A-Za-z0-9+/]{24}"
    rb"(?:(?:-{0,4}(?:[^\"\\-]|\\[^\"]))*-----END " + _KEY_LABEL + rb"|(?:[A-Za-z0-9+/=\s]|\\+[nrt])*))"
)
# AWS, "Configuration and credential file settings", and "AssumeRole" of the STS API (SecretAccessKey): the
# name before it distinguishes it from a hash. Also as an item of os.environ, and in XML.
_AWS_SECRET_KEY = (
    rb"(?i:aws[_-]?secret[_-]?(?:access[_-]?)?key|secret_?access_?key)(?:\\*[\"']|[ :=>\]]){1,8}"
    rb"([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)"
)
# RFC 6750, section 2.1, and RFC 7617, section 2. curl --oauth2-bearer 'TOKEN' too. As in all gaps, a
# backslash is read with the rest of its escape: a token that began within one would leave no JSON.
_BEARER = rb"(?:(?i:\bbearer)(?: |\\+t|%20){1,4}|--oauth2-bearer(?:\\+[nrt\"]|\\\\|[\"', =])+)([\w.~+/-]{16,}=*)"
_GAP = rb"(?:\\*[\"']|\\t|[ \t:=>\[]){1,8}"
_SPACES = rb"(?:\s|\\+[nrt])*"
# As HAR files and lists of values write a header: "name": "NAME", "value": "VALUE", and "NAME": ["VALUE"].
_IN_OBJECT = rb"\\*[\"'](?:," + _SPACES + rb"\\*[\"']value\\*[\"']: ?|: ?\[" + _SPACES + rb")\\*[\"']"
# As Python writes a header: ('NAME', 'VALUE'), (b'NAME', b'VALUE').
_IN_PAIR = rb"\\*[\"'], ?b?\\*[\"']"
_HEADER_GAP = b"(?:" + _GAP + b"|" + _IN_OBJECT + b"|" + _IN_PAIR + b")"
_BASIC = rb"(?i:\bauthorization)" + _HEADER_GAP + rb"(?i:basic)(?: |%20){1,4}([A-Za-z0-9+/_-]{8,}={0,2})"
_KEY_HEADER = (
    rb"(?:x[-_](?:[a-z0-9]{1,20}[-_]){0,3}?(?:key|token|secret)|api-key|private-token|ocp-apim-subscription-key)"
)
_PAIR_OF_HEADER = rb"\(b?\\*[\"']" + _KEY_HEADER + _IN_PAIR
# Headers that carry a key, as HTTP, WSGI and JSON write them: X-Api-Key and its relatives,
# PRIVATE-TOKEN (GitLab), Ocp-Apim-Subscription-Key and api-key (Azure); RFC 9110, section 11.6.2, for schemes.
_API_KEY = (
    rb"(?i:"
    + _PAIR_OF_HEADER
    + rb"|(?:\b|_)"
    + _KEY_HEADER
    + b"(?:"
    + _GAP
    + b"|"
    + _IN_OBJECT
    + b")"
    + rb"|authorization"
    + _GAP
    + rb"(?:token|api-?key|key|bot)(?: |%20|[ :=]){1,4})([\w.~+/-]{16,}=*)"
)
# Some services take a key without a scheme. A word with hyphens or underscores is too often no key.
_BARE_KEY = rb"(?i:\bauthorization)" + _GAP + rb"([A-Za-z0-9]{24,}[\w.~+/-]*=*)"
# RFC 6265, sections 4.1 and 4.2.
_PAIR = rb"[\w.%!-]+=[^\s;,\"'\\`(){}<>\[\]]*"
_PAIRS = b"(" + _PAIR + rb"(?:; ?" + _PAIR + b")*)"
_COOKIE = rb"(?i:(?:\b|_)(?:set-)?cookie)" + _HEADER_GAP + _PAIRS
# curl(1): -b 'NAME=VALUE' (a file of cookies has no "="), -u and -U USER:PASSWORD, in any place of a
# command. The command is a pattern of its own, since any text between "curl" and an option would
# make RE2 keep too many states.
#
# A command ends at a line break without a backslash (^ in cmd, ` in PowerShell) before it, at a quote
# of JSON, and at "|", "&" or ";" before a space. A list of arguments ends with the list, or at an
# argument that looks like a command.
_QUOTED = (
    rb"(?:[\s=$]\\*'(?:[^'\"\\]|\\+[^'\"\\]|(?:\\\\)*\\\")*\\*'"
    rb"|[\s=$](?:\\\\)*\\\"(?:[^\"\\]|\\+[^\"\\])*(?:\\\\)*\\\")"
)
_CONTINUED = rb"(?:(?:\\{3,}|[\^`]\\+)(?:r\\+)?n|[\\^`]\r?\n)"
_FIRST_ARGUMENT = rb"(?:\s|\\+t)*(?:\s[-$]|\s\w[\w-]*[.:/]|" + _QUOTED + rb"|\s" + _CONTINUED + b")"
_SHELL = (
    _FIRST_ARGUMENT + b"(?:" + _QUOTED + b"|" + _CONTINUED + rb"|[^\"'\\\n|&;]|\\+[^\"'\\nr\n]|[|&;][^\s\"'\\|&;])*"
)
_NEXT_ITEM = rb"\\*[\"'],(?:\s|\\+[nrt])*"
_ITEMS = rb"(?:" + _NEXT_ITEM + rb"\\*[\"'](?:[^\"'\\\s]|\s[^\"'\\\s-]|\\+[^\"'\\])*)*"
_CURL = rb"(?:\b|_|\\[nrt])curl(?:\.exe)?(?:" + _SHELL + b"|" + _ITEMS + b")"
_OPTION = rb"(?:[\s\"']|\\[nt])-"
_VALUE = rb"(?:[ =]+|" + _NEXT_ITEM + b")"
_QUOTE = rb"[$\\]*[\"']"
_CURL_COOKIE = _OPTION + b"(?:(?:[A-Za-z]*b|-cookie)" + _VALUE + b"|b)(?:" + _QUOTE + b")?" + _PAIRS
_LOGIN = _OPTION + b"(?:(?:[A-Za-z]*[uU]|-(?:proxy-)?user)" + _VALUE + b"|[uU])"
_CURL_LOGIN = _LOGIN + rb"([^\s\"'\\:<>\[\]|&;()`]*:[^\s\"'\\<>\[\]|&;()`]*)"
_CURL_QUOTED_LOGIN = _LOGIN + _QUOTE + rb"([^\s\"'\\:<>\[\]]*:[^\s\"'\\<>\[\]]*)"
# Azure, "Configure connection strings" and "Service SAS": the signature is 32 bytes in base64.
_AZURE_KEY = (
    rb"(?:(?i:account_?key|shared_?access_?key)" + _GAP + rb"|(?:[?&;]|u0026)sig=)"
    rb"((?:[A-Za-z0-9+/]|%2[BFbf]){40,}(?:=|%3[Dd]){1,2})"
)
# RFC 3986, section 3.2.1. Match to the last "@" of the authority, since some clients do not encode
# an "@" in a password.
_URL_PASSWORD = rb"\w://[^:" + _USERINFO + rb"]*:((?:[^" + _USERINFO + rb"]*@)*[^" + _USERINFO + rb"]+)@"


# Global because compiling them takes milliseconds. They are constants, so they need no reset.
RULES = tuple(_rules())
KINDS = tuple(rule.kind for rule in RULES)
_GROUP = 7
"""About the square root of the number of rules: a text with one kind is searched a third as often."""
GROUPS = tuple(
    Group(_compiled(b"|".join(rule.pattern.pattern for rule in rules), never_capture=True), rules)
    for rules in (RULES[at : at + _GROUP] for at in range(0, len(RULES), _GROUP))
)
CREDENTIAL = _compiled(b"|".join(rule.pattern.pattern for rule in RULES), never_capture=True)
ANY = _compiled(CREDENTIAL.pattern + b"|" + search_text.CHANGED, never_capture=True)
