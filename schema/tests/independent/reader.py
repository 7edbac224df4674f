#!/usr/bin/env python3
"""An independent reader of waag's formats, written from FORMATS.md alone.

    reader.py vectors DIR        checks every vector of schema/vectors
    reader.py pull DIR LOGKEY    verifies a pulled directory against a site's ledger key (a vkey)

It needs Python 3.9 or newer and the package `cryptography`, for ed25519. Section numbers are those of FORMATS.md.
"""
import base64
import hashlib
import hmac
import json
import os
import re
import struct
import sys
import unicodedata
from math import gcd, prod

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KIB, MIB = 1 << 10, 1 << 20
INTEGER_MAX = (1 << 53) - 1


class Refused(Exception):
    """What was read is not to be believed."""


def need(condition, why):
    if not condition:
        raise Refused(why)


# 1. Conventions

def unbase64(text):
    need(isinstance(text, str), "base64 is text")
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError as error:
        raise Refused(f"base64: {error}") from None
    need(base64.b64encode(raw).decode() == text, "base64 is not canonical")
    return raw


def b64(raw):
    return base64.b64encode(raw).decode()


def utf8(raw):
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("not UTF-8") from None


def full(pattern, text, why):
    need(isinstance(text, str), why)
    match = re.fullmatch(pattern, text)
    need(match, f"{why}: {text[:80]!r}")
    return match


class Bytes:
    """Takes fields off the front of a byte string."""

    def __init__(self, raw):
        self.rest = raw

    def take(self, count):
        need(len(self.rest) >= count, "it ends too early")
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def number(self, count):
        return int.from_bytes(self.take(count), "big")

    def end(self):
        need(not self.rest, "bytes behind its end")


# 2. Digests, keys, sites, time

BLAKE3_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
BLAKE3_ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED, CONTEXT, MATERIAL = 1, 2, 4, 8, 16, 32, 64
WORD = 0xFFFFFFFF


def blake3_compress(chain, block, counter, length, flags):
    m = list(struct.unpack("<16I", block))
    v = list(chain) + [*BLAKE3_IV[:4], counter & WORD, counter >> 32, length, flags]

    def mix(a, b, c, d, x, y):
        v[a] = (v[a] + v[b] + x) & WORD
        v[d] ^= v[a]
        v[d] = (v[d] >> 16 | v[d] << 16) & WORD
        v[c] = (v[c] + v[d]) & WORD
        v[b] ^= v[c]
        v[b] = (v[b] >> 12 | v[b] << 20) & WORD
        v[a] = (v[a] + v[b] + y) & WORD
        v[d] ^= v[a]
        v[d] = (v[d] >> 8 | v[d] << 24) & WORD
        v[c] = (v[c] + v[d]) & WORD
        v[b] ^= v[c]
        v[b] = (v[b] >> 7 | v[b] << 25) & WORD

    for turn in range(7):
        mix(0, 4, 8, 12, m[0], m[1])
        mix(1, 5, 9, 13, m[2], m[3])
        mix(2, 6, 10, 14, m[4], m[5])
        mix(3, 7, 11, 15, m[6], m[7])
        mix(0, 5, 10, 15, m[8], m[9])
        mix(1, 6, 11, 12, m[10], m[11])
        mix(2, 7, 8, 13, m[12], m[13])
        mix(3, 4, 9, 14, m[14], m[15])
        if turn < 6:
            m = [m[i] for i in BLAKE3_ORDER]
    return [v[i] ^ v[i + 8] for i in range(8)]


def blake3_chunk(raw, number, root, key, mode):
    chain = key
    blocks = [raw[at:at + 64] for at in range(0, len(raw), 64)] or [b""]
    for index, block in enumerate(blocks):
        last = index == len(blocks) - 1
        flags = (CHUNK_START if index == 0 else 0) | (CHUNK_END if last else 0) | (ROOT if last and root else 0) | mode
        chain = blake3_compress(chain, block.ljust(64, b"\0"), number, len(block), flags)
    return chain


def blake3_tree(raw, number, root, key=BLAKE3_IV, mode=0):
    if len(raw) <= 1024:
        return blake3_chunk(raw, number, root, key, mode)
    chunks = (len(raw) + 1023) // 1024
    left = 1 << ((chunks - 1).bit_length() - 1)
    halves = (blake3_tree(raw[:left * 1024], number, False, key, mode)
              + blake3_tree(raw[left * 1024:], number + left, False, key, mode))
    return blake3_compress(key, struct.pack("<16I", *halves), 0, 64, PARENT | (ROOT if root else 0) | mode)


def blake3(raw):
    return struct.pack("<8I", *blake3_tree(raw, 0, True)).hex()


def blake3_derived(context, material):
    inner = blake3_tree(context.encode(), 0, True, BLAKE3_IV, CONTEXT)
    return blake3_tree(material, 0, True, tuple(inner), MATERIAL)


def blake3_keyed(key, raw):
    return struct.pack("<8I", *blake3_tree(raw, 0, True, tuple(key), KEYED)).hex()


def sha256(raw):
    return hashlib.sha256(raw).digest()


def sha256_text(raw):
    return "sha256:" + sha256(raw).hex()


def read_sha256(text):
    full(r"sha256:[0-9a-f]{64}", text, "a SHA-256")
    return text


def read_blake3(text):
    full(r"[0-9a-f]{64}", text, "a BLAKE3 digest")
    return text


P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def point(raw):
    """Decodes a point of the curve (RFC 8032, 5.1.3)."""
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    need(y < P, "a point's encoding is not canonical")
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    need((x * x - square) % P == 0, "not a point of the curve")
    need(x or not sign, "a point's encoding is not canonical")
    return (P - x if x & 1 != sign else x), y


def small_order(raw):
    x, y = point(raw)
    for _ in range(3):
        both = D * x * x * y * y % P
        x, y = 2 * x * y * pow(1 + both, P - 2, P) % P, (y * y + x * x) * pow(1 - both, P - 2, P) % P
    return (x, y) == (0, 1)


def check_key(raw):
    need(len(raw) == 32, "a key has 32 bytes")
    need(not small_order(raw), "a key of small order")
    return raw


def verify_signature(key, message, signature):
    need(len(signature) == 64, "a signature has 64 bytes")
    need(int.from_bytes(signature[32:], "little") < L, "S is not below L")
    need(not small_order(signature[:32]), "R has small order")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        raise Refused("a signature does not hold") from None


def wire(key):
    return struct.pack(">I", 11) + b"ssh-ed25519" + struct.pack(">I", 32) + key


def read_key(text):
    need(isinstance(text, str), "a key is text")
    words = text.split()
    need(len(words) >= 2 and words[0] == "ssh-ed25519", "not an ed25519 key")
    raw = unbase64(words[1])
    key = raw[-32:]
    need(wire(key) == raw, "not an ed25519 key")
    return check_key(key)


def key_text(key):
    return "ssh-ed25519 " + b64(wire(key))


def fingerprint(key):
    return "SHA256:" + b64(sha256(wire(key))).rstrip("=")


def site_of(key):
    return base64.b32encode(sha256(key)[:20]).decode().lower()


def read_time(text):
    match = full(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z", text, "a time")
    year, month, day, hour, minute, second = map(int, match.groups())
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    need(year >= 1970 and 1 <= month <= 12 and 1 <= day <= days[month - 1], "no such day")
    need(hour < 24 and minute < 60 and second < 60, "no such time")
    before = year - 1
    total = before * 365 + before // 4 - before // 100 + before // 400 - 719162
    return (total + sum(days[:month - 1]) + day - 1) * 86400 + hour * 3600 + minute * 60 + second


# 3. Names

RESERVED = "api v1 v2 cas ledger datasets models spaces kernels metrics healthz readyz assets".split()


def read_namespace(text):
    full(r"[a-z0-9]+(-[a-z0-9]+)*", text, "a namespace")
    need(len(text) <= 39 and text not in RESERVED, "a namespace of another length, or reserved")
    return text


def read_artifact(text):
    need(isinstance(text, str) and text.count("/") == 1, "an artifact has two parts")
    namespace, name = text.split("/")
    read_namespace(namespace)
    full(r"[a-z0-9]+([-._][a-z0-9]+)*", name, "an artifact's name")
    need(len(name) <= 96 and not name.endswith((".git", ".ipynb")), "an artifact's name")
    return text


def read_tag(text):
    full(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", text, "a tag")
    return text


def read_version(text):
    return read_sha256(text) if isinstance(text, str) and text.startswith("sha256:") else read_tag(text)


def read_site(text):
    full(r"[a-z2-7]{32}", text, "a site")
    return text


def read_reference(text):
    if "@" in text:
        artifact, digest = text.split("@", 1)
        return read_artifact(artifact), read_sha256(digest)
    artifact, colon, tag = text.partition(":")
    return read_artifact(artifact), read_tag(tag if colon else "latest")


def read_path(text):
    need(isinstance(text, str), "a path is text")
    need(1 <= len(text.encode()) <= 1024, "a path's length")
    need(not any(ord(c) < 32 or 127 <= ord(c) < 160 or c == "\\" for c in text), "a path's characters")
    need(not re.match(r"[A-Za-z]:", text), "a drive")
    for part in text.split("/"):
        need(part not in ("", ".", "..") and len(part.encode()) <= 255, "a path's part")
    need(text.split("/")[0].lower() != ".waag", "a path below .waag")
    return text


def check_paths(paths):
    folded = [path.lower() for path in paths]
    need(len(set(folded)) == len(folded), "two paths are one")
    for path in folded:
        parts = path.split("/")
        for count in range(1, len(parts)):
            need("/".join(parts[:count]) not in folded, "a file is a directory")


# 4. Strict JSON

def read_json(raw, limit):
    need(len(raw) <= limit, "too much JSON")
    text = utf8(raw)

    def pairs(found):
        keys = [key for key, _ in found]
        need(len(set(keys)) == len(keys), "a key stands twice")
        return dict(found)

    def integer(digits):
        need(digits != "-0" and len(digits) <= 17 and abs(int(digits)) <= INTEGER_MAX, f"the number {digits[:40]}")
        return int(digits)

    def other(found):
        raise Refused(f"the number {found[:40]}")

    def check(value, level):
        if isinstance(value, str):
            need(not any(0xD800 <= ord(c) < 0xE000 for c in value), "a lone surrogate")
        elif isinstance(value, (dict, list)):
            need(level < 16, "more than 16 levels")
            for item in (list(value) + list(value.values())) if isinstance(value, dict) else value:
                check(item, level + 1)

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_int=integer, parse_float=other, parse_constant=other)
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {error}") from None
    check(value, 0)
    return value


def shape(value, /, **fields):
    """Checks that an object has exactly these keys (but those that may be left out), and reads each."""
    need(isinstance(value, dict), "not an object")
    fields = {key.rstrip("_"): read for key, read in fields.items()}
    fields = {key: read for key, read in fields.items() if key in value or not hasattr(read, "left_out")}
    need(set(value) == set(fields), f"keys {sorted(value)}, expected {sorted(fields)}")
    return {key: read(value[key]) for key, read in fields.items()}


def natural(value):
    need(isinstance(value, int) and not isinstance(value, bool) and value >= 0, "not a number")
    return value


def string(value):
    need(isinstance(value, str), "not text")
    return value


def listed(read):
    def run(value):
        need(isinstance(value, list), "not a list")
        return [read(item) for item in value]
    return run


def optional(read):
    return lambda value: None if value is None else read(value)


def or_left_out(read):
    def run(value):
        return read(value)
    run.left_out = True
    return run


def one_of(*words):
    def run(value):
        need(isinstance(value, str) and value in words, f"none of {words}")
        return value
    return run


# 5. Signed statements

PAYLOAD_TYPE = "application/vnd.in-toto+json"


CHARTER_TYPE = "application/vnd.waag.charter+json"


def pae(payload, payload_type):
    head = f"DSSEv1 {len(payload_type)} {payload_type} {len(payload)} "
    return head.encode() + payload


class Envelope:
    def __init__(self, raw, payload_type=PAYLOAD_TYPE, limit=512 * KIB):
        self.payload_type = payload_type
        read = shape(
            read_json(raw, limit),
            payload=unbase64,
            payloadType=one_of(payload_type),
            signatures=listed(lambda s: shape(s, keyid=string, sig=unbase64)),
        )
        self.digest, self.payload, self.signatures = sha256_text(raw), read["payload"], read["signatures"]
        need(1 <= len(self.signatures) <= 32, "1 to 32 signatures")
        need(all(len(s["sig"]) == 64 for s in self.signatures), "a signature has 64 bytes")

    def check(self, keys, threshold):
        by_name = {fingerprint(key): key for key in keys}
        signed = set()
        for signature in self.signatures:
            key = by_name.get(signature["keyid"])
            if key is not None:
                verify_signature(key, pae(self.payload, self.payload_type), signature["sig"])
                signed.add(key)
        need(len(signed) >= max(threshold, 1), f"{len(signed)} of {threshold} signed")


def read_key_set(value):
    keys = shape(value, owners=listed(read_key), threshold=natural, recovery=listed(read_key))
    both = keys["owners"] + keys["recovery"]
    need(1 <= len(keys["owners"]) <= 32 and len(keys["recovery"]) <= 32, "a number of keys")
    need(1 <= keys["threshold"] <= len(keys["owners"]), "a threshold")
    need(len(set(both)) == len(both), "a key stands twice")
    return keys


def read_link(value):
    return shape(value, counter=natural, previous=optional(read_sha256))


read_kind = one_of("model", "dataset", "suite")


def read_content(value):
    planner = one_of("tensors-1", "fastcdc-1", "gguf-1")
    return shape(value, sha256=read_sha256, size=natural, planner=planner, recipe=read_blake3)


def read_contents(value):
    contents = listed(read_content)(value)
    digests = [content["sha256"] for content in contents]
    need(digests == sorted(set(digests)), "content is not sorted")
    return contents


def read_reason(value):
    need(len(string(value).encode()) <= 1000, "a long reason")
    return value


def read_site_name(value):
    need(string(value).startswith("site:"), "not a site's name")
    read_site(value[5:])
    return value


def read_ground(value):
    return full(r"([a-z0-9-]{1,64})", string(value), "a ground").group(1)


def read_positions(value):
    positions = listed(natural)(value)
    need(positions == sorted(set(positions)) and len(positions) <= 16384, "not ascending positions")
    return positions


def read_root(value):
    raw = unbase64(value)
    need(len(raw) == 32, "a root")
    return raw


def read_seen(value):
    return shape(value, origin=lambda text: read_origin(string(text)), size=natural, root=optional(read_root))


def read_short_text(value):
    need(1 <= len(string(value).encode()) <= 500, "a text of 1 to 500 bytes")
    return value


def read_code(value):
    return full(r"([a-z0-9._-]{1,64})", string(value), "a code").group(1)


def read_amount(value):
    if re.fullmatch(r"[0-9]+", string(value)):
        need(value == str(int(value)) and int(value) < 2**64, "a count in its one spelling")
        return int(value)
    if value in ("inf", "-inf"):
        return float(value)
    full(r"(-?[0-9](\.[0-9]+)?e-?[0-9]+)", value, "a number")
    mantissa, exponent = value.lstrip("-").split("e")
    digits = mantissa.replace(".", "")
    shortest = "%r" % abs(float(value))
    need(exponent == str(int(exponent)), "an exponent in its one spelling")
    need((digits == "0" and exponent == "0") or digits[0] != "0", "one digit before the point")
    need(mantissa == "0" or not (("." in mantissa) and mantissa.endswith("0")), "no zeros behind")
    need(digits.strip("0") == re.sub(r"e.*", "", shortest).replace(".", "").strip("0"), "the shortest decimal")
    return float(value)


def read_task(value):
    need(1 <= len(string(value).encode()) <= 128, "a name of 1 to 128 bytes")
    need(not any(unicodedata.category(c) == "Cc" for c in value), "a control character")
    return value


def read_tolerance(value):
    amount = read_amount(value)
    need(0 <= amount <= 0.1 and not value.startswith("-"), "a tolerance from 0 to 0.1")
    return amount


def read_section(value):
    section = shape(value, name=read_code, results=listed(lambda result: shape(
        result, metric=read_code, task=or_left_out(read_task), value=read_amount,
        standardError=or_left_out(read_amount), tolerance=or_left_out(read_tolerance),
        sampleSize=optional(read_amount))),
        notMeasured=optional(read_short_text),
        missing=or_left_out(listed(lambda one: shape(one, metric=read_code, reason=read_short_text))))
    need(section.get("missing") != [], "a list of nothing")
    metrics = [(result.get("task"), result["metric"]) for result in section["results"]]
    metrics += [(None, one["metric"]) for one in section.get("missing") or []]
    need(len(metrics) == len(set(metrics)) <= 1024, "a metric twice")
    need(not metrics or section["notMeasured"] is None, "measured and not measured")
    return section


def read_sections(value):
    sections = listed(read_section)(value)
    names = [section["name"] for section in sections]
    need(len(names) == len(set(names)) <= 16, "a section twice")
    return sections


def read_requirements(value):
    found = listed(lambda one: shape(one, suite=optional(read_artifact), task=optional(read_task), metric=read_code,
                                     atLeast=optional(read_amount), atMost=optional(read_amount)))(value)
    need(len(found) <= 16, "too many requirements")
    need(all(one["atLeast"] is not None or one["atMost"] is not None for one in found), "nothing is required")
    return found


def read_sites(value):
    found = listed(read_site)(value)
    need(len(found) <= 256 and all(a < b for a, b in zip(found, found[1:])), "sites ascend, at most 256")
    return found


# (what the subject is, whether its digest is the manifest's, the predicate's fields)
LINKED = {"namespace": read_sha256, "link": read_link}
PREDICATES = {
    "namespace": (read_namespace, False, {
        "keys": read_key_set, "home": read_site, "visibility": one_of("public", "private")}),
    "rotation": (read_namespace, False, {**LINKED, "keys": read_key_set}),
    "gate": (read_namespace, False, {**LINKED, "tag": read_tag, "requirements": lambda value: read_requirements(value)}),
    "access": (read_namespace, False, {**LINKED, "sites": read_sites}),
    "release": (read_artifact, True, {**LINKED, "kind": read_kind, "config": read_content, "content": read_contents}),
    "tag": (read_artifact, True, {**LINKED, "tag": read_tag, "from": optional(read_sha256)}),
    "residency": (read_artifact, False, {**LINKED, "label": lambda value: read_label(value)}),
    "withdrawal": (read_artifact, True, {**LINKED, "reason": read_reason}),
    "erasure": (read_site_name, False, {"entry": natural, "stream": string, "seq": natural, "ground": read_ground}),
    "revocation-list": (read_site_name, False, {"at": read_time, "size": natural, "entries": read_positions}),
    "successor": (read_site_name, False, {
        "origin": lambda value: read_origin(string(value)), "size": natural, "root": read_root,
        "seen": optional(lambda value: read_seen(value))}),
    "charter-adopted": (read_site_name, False, {
        "federation": lambda value: read_word(63, value), "version": natural, "sha256": read_sha256}),
    "scorecard": (read_artifact, True, {
        "at": read_time, "precision": read_short_text, "sections": read_sections,
        "harness": lambda value: shape(value, name=read_short_text, version=read_short_text, digest=read_sha256),
        "device": lambda value: shape(
            value, **{"class": read_short_text, "name": optional(read_short_text), "worker": or_left_out(read_short_text)}),
        "suite": or_left_out(lambda value: shape(value, artifact=read_artifact, manifest=read_sha256)),
        "details": optional(lambda value: shape(value, sha256=read_sha256, size=natural))}),
}


class Statement:
    def __init__(self, payload):
        read = shape(
            read_json(payload, 512 * KIB),
            _type=one_of("https://in-toto.io/Statement/v1"),
            subject=listed(lambda s: shape(s, name=string, digest=lambda d: shape(d, sha256=read_blake3))),
            predicateType=string,
            predicate=lambda value: value,
        )
        self.predicate = full(r"urn:waag:predicate:([a-z-]+):1", read["predicateType"], "a predicate").group(1)
        need(self.predicate in PREDICATES, "an unknown predicate")
        need(len(read["subject"]) == 1, "one subject")
        read_name, of_manifest, fields = PREDICATES[self.predicate]
        self.name = read_name(read["subject"][0]["name"])
        self.digest = "sha256:" + read["subject"][0]["digest"]["sha256"]
        if not of_manifest:
            need(self.digest == sha256_text(self.name.encode()), "the digest is not the name's")
        self.says = shape(read["predicate"], **fields)
        if self.predicate == "revocation-list":
            need(all(entry < self.says["size"] for entry in self.says["entries"]), "a position behind the list")


FIRST_LINK = {"counter": 0, "head": None}


def follow(chain, link, envelope):
    need(link["counter"] == chain["counter"] + 1, "a replay or a gap")
    need(link["previous"] == chain["head"], "a fork")
    return {"counter": link["counter"], "head": envelope.digest}


class NamespaceState:
    """A namespace, from its beginning through its rotations."""

    def __init__(self, envelope, site):
        statement = Statement(envelope.payload)
        need(statement.predicate == "namespace", "it does not begin a namespace")
        need(statement.says["home"] == site, "its home is another site")
        self.keys = statement.says["keys"]
        envelope.check(self.keys["owners"], self.keys["threshold"])
        self.name, self.id = statement.name, sha256_text(envelope.payload)
        self.visibility = statement.says["visibility"]
        self.chain = {"counter": 1, "head": envelope.digest}

    def rotate(self, envelope):
        statement = Statement(envelope.payload)
        need(statement.predicate == "rotation" and statement.name == self.name, "it does not rotate this")
        need(statement.says["namespace"] == self.id, "another namespace")
        chain = follow(self.chain, statement.says["link"], envelope)
        try:
            envelope.check(self.keys["owners"], self.keys["threshold"])
        except Refused:
            count = min(self.keys["threshold"], len(self.keys["recovery"]))
            need(count >= 1, "there are no recovery keys")
            envelope.check(self.keys["recovery"], count)
        keys = statement.says["keys"]
        envelope.check(keys["owners"], keys["threshold"])
        self.keys, self.chain = keys, chain

    def gate(self, envelope):
        """A gate, or which sites may read what is private."""
        statement = Statement(envelope.payload)
        need(statement.predicate in ("gate", "access") and statement.name == self.name, "it is no gate of this")
        need(statement.predicate == "gate" or self.visibility == "private", "everybody may read it")
        need(statement.says["namespace"] == self.id, "another namespace")
        chain = follow(self.chain, statement.says["link"], envelope)
        envelope.check(self.keys["owners"], self.keys["threshold"])
        self.chain = chain

    def check(self, envelope, statement):
        """Checks everything about a statement on an artifact but its chain."""
        need(statement.predicate not in ("namespace", "rotation", "gate", "access"), "it is not about an artifact")
        need(statement.name.split("/")[0] == self.name, "it is of another namespace")
        need(statement.says["namespace"] == self.id, "another namespace's id")
        envelope.check(self.keys["owners"], self.keys["threshold"])


# 6. Manifest

MODEL_TYPE = r"application/vnd\.(?:cncf|cnai)\.model\."


class Manifest:
    def __init__(self, raw):
        value = read_json(raw, 4 * MIB)
        need(isinstance(value, dict), "a manifest is an object")
        natural(value.get("schemaVersion"))
        need(value["schemaVersion"] == 2, "schemaVersion")
        need(value.get("mediaType") in (None, "application/vnd.oci.image.manifest.v1+json"), "mediaType")
        full(MODEL_TYPE + r"manifest\.v1\+json", value.get("artifactType"), "artifactType")
        self.digest = sha256_text(raw)
        config = self.descriptor(value.get("config"))
        full(MODEL_TYPE + r"config\.v1\+json", config["type"], "config")
        self.config = config["digest"], config["size"]
        need(isinstance(value.get("layers"), list) and value["layers"], "layers")
        notes = self.annotations(value)
        self.list, self.tars, self.totals = None, [], None
        if "eu.waag.files" in notes:
            self.totals = tuple(int(full(r"0|[1-9][0-9]{0,19}", notes.get(f"eu.waag.files.{key}"), key).group())
                                for key in ("count", "bytes"))
        self.files = []
        for layer in value["layers"]:
            self.take(layer, notes.get("eu.waag.files"))
        need(self.files or self.tars, "no files")
        need("eu.waag.files" not in notes or (self.list and self.tars), "no list of files")
        check_paths([file["path"] for file in self.files])
        datasets = all(file["role"] == "dataset" for file in self.files + self.tars)
        self.kind = read_kind(notes.get("eu.waag.kind", "dataset" if datasets else "model"))
        self.base = self.pinned(notes["eu.waag.base"]) if "eu.waag.base" in notes else None
        self.data = [self.pinned(text) for text in notes["eu.waag.data"].split(",")] if "eu.waag.data" in notes else []
        need(len(self.data) <= 64, "too much data")

    @staticmethod
    def annotations(value):
        notes = value.get("annotations") or {}
        need(isinstance(notes, dict) and all(isinstance(v, str) for v in notes.values()), "annotations")
        return notes

    @staticmethod
    def pinned(text):
        artifact, version = read_reference(text)
        need(version.startswith("sha256:"), "not pinned to a digest")
        return f"{artifact}@{version}"

    def descriptor(self, value):
        need(isinstance(value, dict), "a descriptor")
        digest, size = read_sha256(value.get("digest")), natural(value.get("size"))
        media_type, notes = string(value.get("mediaType")), self.annotations(value)
        return {"type": media_type, "digest": digest, "size": size, "notes": notes}

    def take(self, value, list_digest):
        """Sorts a layer: a file of its own, a tar, or the list of files."""
        if list_digest is not None:
            layer = self.layer(value, lambda path: path)
            if (layer["path"], layer["packing"], layer["digest"]) == (".waag/files.json", "raw", list_digest) \
                    and self.list is None:
                self.list = layer
                return
            if (layer["path"], layer["packing"]) == (f".waag/files-{len(self.tars)}.tar", "tar"):
                self.tars.append(layer)
                return
        self.files.append(self.layer(value, read_path))

    def blobs(self):
        return self.files + self.tars + ([self.list] if self.list else [])

    def layer(self, value, read):
        layer = self.descriptor(value)
        pattern = MODEL_TYPE + r"(weight|weight\.config|doc|code|dataset)\.v1\.(raw|tar|tar\+gzip|tar\+zstd)"
        role, packing = full(pattern, layer["type"], "a layer's type").groups()
        notes = layer["notes"]
        paths = [notes[key] for key in ("org.cncf.model.filepath", "org.cnai.model.filepath") if key in notes][:1]
        paths += [notes[key] for key in ("org.opencontainers.image.title",) if key in notes]
        need(paths and len(set(paths)) == 1, "a layer's path")
        return {"path": read(paths[0]), "digest": layer["digest"], "size": layer["size"],
                "role": role, "packing": packing}

    def fits(self, statement):
        says = statement.says
        need(statement.predicate == "release" and statement.digest == self.digest, "no release of this manifest")
        need(says["kind"] == self.kind, "another kind")
        need((says["config"]["sha256"], says["config"]["size"]) == self.config, "another config")
        named = {(content["sha256"], content["size"]) for content in says["content"]}
        need(named == {(file["digest"], file["size"]) for file in self.blobs()}, "other files")
        need(all(file["packing"] == "raw" for file in self.files), "a layer is not raw")


# 7. Stored chunk and frame

ENCODINGS = ("raw", "zstd", "planes", "delta")


def read_chunk(stored):
    need(len(stored) <= 4 * MIB + KIB, "a long chunk")
    rest = Bytes(stored)
    need(rest.take(2) == b"WC" and rest.number(1) == 1, "not a chunk of version 1")
    encoding = rest.number(1)
    need(encoding < 4, "an unknown encoding")
    length = rest.number(4)
    need(1 <= length <= 4 * MIB, "a raw length")
    base = rest.take(32).hex() if encoding == 3 else None
    need(rest.rest and (encoding != 0 or len(rest.rest) == length), "a body's length")
    return {"encoding": ENCODINGS[encoding], "raw_length": length, "base": base, "body": rest.rest}


def read_zstd(raw, length):
    """Reads a frame of raw and repeated blocks (RFC 8878, 3.1.1): without a zstd decoder, that is all there is."""
    rest = Bytes(raw)
    need(rest.take(4) == bytes.fromhex("28b52ffd"), "not a zstd frame")
    descriptor = rest.number(1)
    single, checksum = descriptor >> 5 & 1, descriptor >> 2 & 1
    need(descriptor & 0b1011 == 0, "a dictionary, or a reserved bit")
    rest.take(1 - single)
    size_bytes = (single, 2, 4, 8)[descriptor >> 6]
    need(size_bytes, "a frame that does not state its length")
    stated = int.from_bytes(rest.take(size_bytes), "little") + (256 if size_bytes == 2 else 0)
    need(stated == length, "a frame of another length")
    found, last = b"", False
    while not last:
        block = int.from_bytes(rest.take(3), "little")
        last, kind, size = block & 1, block >> 1 & 3, block >> 3
        need(kind < 2, "a compressed block")
        need(len(found) + size <= length, "a frame longer than it states")
        found += rest.take(size) if kind == 0 else rest.take(1) * size
    rest.take(4 * checksum)
    rest.end()
    need(len(found) == length, "a frame of another length than it states")
    return found


def decode_chunk(stored):
    chunk = read_chunk(stored)
    encoding, length, rest = chunk["encoding"], chunk["raw_length"], Bytes(chunk["body"])
    if encoding == "raw":
        return rest.rest
    if encoding == "zstd":
        return read_zstd(rest.rest, length)
    need(encoding == "planes", "an encoding that is not defined yet")
    form = rest.number(1)
    need(form in (0x02, 0x12, 0x04, 0x14), "a form")
    width, rotated = form & 15, form >> 4
    n = length // width
    need(n, "less than one element")
    planes = []
    for _ in range(width):
        coding, taken = rest.number(1), rest.number(4)
        plane = rest.take(taken)
        need(coding < 2, "a plane's coding")
        planes.append(read_zstd(plane, n) if coding else plane)
        need(len(planes[-1]) == n, "a plane's length")
    need(len(rest.rest) == length % width, "a tail's length")
    raw = b""
    for element in zip(*planes):
        bits = int.from_bytes(bytes(element), "little")
        bits = bits >> 1 | (bits & 1) << (8 * width - 1) if rotated else bits
        raw += bits.to_bytes(width, "little")
    return raw + rest.rest


def read_frames(raw):
    rest, frames = Bytes(raw), []
    while rest.rest:
        digest, length = rest.take(32).hex(), rest.number(4)
        need(9 <= length <= 4 * MIB + KIB, "a frame's length")
        frames.append((digest, rest.take(length)))
    return frames


# 8. Recipe

PLANNERS = {1: "tensors-1", 2: "fastcdc-1", 3: "gguf-1"}


def read_recipe(raw):
    rest = Bytes(raw)
    need(rest.take(4) == b"WRCP" and rest.number(1) == 1, "not a recipe of version 1")
    planner = PLANNERS.get(rest.number(1))
    need(planner, "an unknown planner")
    size, count = rest.number(8), rest.number(4)
    need(count <= 1 << 22, "too many pieces")
    pieces = []
    for _ in range(count):
        chunk, offset, length = rest.take(32).hex(), rest.number(4), rest.number(4)
        need(length >= 1 and offset + length <= 4 * MIB, "a piece")
        pieces.append((chunk, offset, length))
    rest.end()
    need(sum(length for _, _, length in pieces) == size, "the pieces do not add up")
    return {"planner": planner, "size": size, "pieces": pieces}


def answer_to(nonce, site, manifest, parts):
    need(1 <= len(parts) <= 16, "too many ranges, or none")
    said = bytes([len(site)]) + site.encode() + manifest + bytes([len(parts)])
    for file, offset, raw in parts:
        need(1 <= len(raw) <= 16 * KIB, "a range that is too long, or has no length")
        said += file + struct.pack(">QI", offset, len(raw)) + raw
    return blake3_keyed(blake3_derived("waag 2026 custody challenge v1", nonce), said)


def write_recipe(planner, pieces):
    code = next(code for code, name in PLANNERS.items() if name == planner)
    size = sum(length for _, _, length in pieces)
    raw = b"WRCP" + bytes([1, code]) + struct.pack(">QI", size, len(pieces))
    return raw + b"".join(bytes.fromhex(c) + struct.pack(">II", offset, length) for c, offset, length in pieces)


# 9. Planners

GEAR = [int.from_bytes(hashlib.md5(bytes([i]) * 64).digest()[:8], "big") for i in range(256)]


def fastcdc_length(raw):
    if len(raw) <= 262144:
        return len(raw)
    most = min(len(raw), 4194304)
    mask, h = 0x0000D91767537000, 0
    for i in range(262144, most - most % 2):
        if i == 1048576:
            mask = 0x0000D91707537000
        h = ((h << 1) + GEAR[raw[i]]) & 0xFFFFFFFFFFFFFFFF
        if not h & mask:
            return i
    return most


def fastcdc_cuts(raw):
    lengths, at = [], 0
    while at < len(raw):
        lengths.append(fastcdc_length(memoryview(raw)[at:at + 4194304]))
        at += lengths[-1]
    return lengths


DTYPE_BITS = {
    name: bits
    for bits, names in {
        4: "F4", 6: "F6_E2M3 F6_E3M2",
        8: "BOOL U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ",
        16: "I16 U16 F16 BF16", 32: "I32 U32 F32", 64: "I64 U64 F64 C64",
    }.items()
    for name in names.split()
}


def read_tensors(header, size):
    """Reads a safetensors header and returns (begin, end, shape, bits) of each tensor, in order."""
    need(header[:1] == b"{" and len(header) <= 100_000_000, "a header starts with {")

    def pairs(found):
        keys = [key for key, _ in found]
        need(len(set(keys)) == len(keys), "a key stands twice")
        return dict(found)

    try:
        value = json.loads(utf8(header), object_pairs_hook=pairs)
    except ValueError as error:
        raise Refused(f"not JSON: {error}") from None

    def numbers(found, most):
        need(isinstance(found, list) and len(found) <= most, "a list of numbers")
        need(all(type(n) is int and 0 <= n < 1 << 64 for n in found), "a list of numbers")
        return found

    notes = value.pop("__metadata__", None)
    need(notes is None or isinstance(notes, dict) and len(notes) <= 65536, "__metadata__")
    need(all(isinstance(note, str) for note in (notes or {}).values()), "__metadata__")
    tensors = []
    for tensor in value.values():
        read = shape(tensor, dtype=string, shape=lambda v: numbers(v, 64), data_offsets=lambda v: numbers(v, 2))
        need(read["dtype"] in DTYPE_BITS and len(read["data_offsets"]) == 2, "a dtype, or offsets")
        (begin, end), bits = read["data_offsets"], DTYPE_BITS[read["dtype"]]
        total = prod(read["shape"]) * bits
        need(total < 1 << 64 and total % 8 == 0 and total // 8 == end - begin, "a tensor's length")
        tensors.append((begin, end, read["shape"], bits))
    tensors.sort(key=lambda t: t[:2])
    at = 0
    for begin, end, _, _ in tensors:
        need(begin == at, "a gap or an overlap")
        at = end
    need(8 + len(header) + at == size, "the tensors do not end where the file does")
    return tensors


GGUF_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 10: 8, 11: 8, 12: 8}


class Little(Bytes):
    def number(self, count):
        return int.from_bytes(self.take(count), "little")

    def text(self, limit):
        length = self.number(8)
        need(length <= limit, "a long text")
        return utf8(self.take(length))

    def value(self, kind, depth=0):
        """Returns a number; walks over everything else."""
        if kind in GGUF_WIDTHS:
            return self.number(GGUF_WIDTHS[kind])
        if kind == 7:
            return need(self.number(1) < 2, "neither true nor false")
        if kind == 8:
            self.take(self.number(8))
            return None
        need(kind == 9 and depth < 4, "a value's type")
        kind, count = self.number(4), self.number(8)
        need(kind in GGUF_WIDTHS or 7 <= kind <= 9, "a value's type")
        if kind in GGUF_WIDTHS or kind == 7:
            self.take(count * GGUF_WIDTHS.get(kind, 1))
        else:
            for _ in range(count):
                self.value(kind, depth + 1)
        return None


def gguf_cuts(header, size):
    """Cuts a file by its first bytes; element types are not looked at."""
    rest, alignment, keys, tensors = Little(header), 32, set(), []
    need(rest.take(4) == b"GGUF" and rest.number(4) in (2, 3), "not GGUF")
    count, pairs = rest.number(8), rest.number(8)
    need(count <= 1 << 18 and pairs <= 1 << 16, "too many")
    for _ in range(pairs):
        key, kind = rest.text(65535), rest.number(4)
        need(key not in keys, "a key twice")
        keys.add(key)
        value = rest.value(kind)
        if key == "general.alignment":
            need(kind in (0, 2, 4, 10) and value in (1 << bit for bit in range(17)), "an alignment")
            alignment = value
    names = set()
    for _ in range(count):
        name, rank = rest.text(1024), rest.number(4)
        need(name not in names and rank <= 8, "a tensor")
        names.add(name)
        need(prod(rest.number(8) for _ in range(rank)) < 1 << 64, "a shape")
        rest.number(4)
        tensors.append(rest.number(8))
    end = len(header) - len(rest.rest)
    start = -(-end // alignment) * alignment
    if not tensors:
        need(end <= size <= start, "bytes behind the header")
        return cuts_at([], size)
    tensors.sort()
    need(tensors[0] == 0 and all(at % alignment == 0 for at in tensors), "offsets")
    need(start + tensors[-1] <= size and start <= 64 * MIB, "beyond the file")
    places = [start + at for at in tensors] + [size]
    return cuts_at([(begin, end, [], 8) for begin, end in zip(places, places[1:])], start)


def tensor_cuts(header, size):
    return cuts_at(read_tensors(header, size), 8 + len(header))


def cuts_at(tensors, start):
    lengths = [min(4 * MIB, start - at) for at in range(0, start, 4 * MIB)]
    tensors = [tensor for tensor in tensors if tensor[1] > tensor[0]]
    while tensors:
        begin, end, dims, bits = tensors[0]
        if end - begin >= 65536:
            tensors.pop(0)
            row_bits = prod(dims[1:]) * bits
            row = row_bits * 8 // gcd(row_bits, 8) // 8
            piece = 4 * MIB // row * row if 0 < row <= 4 * MIB else 4 * MIB
            lengths += [min(piece, end - at) for at in range(begin, end, piece)]
            continue
        total = 0
        while tensors and tensors[0][1] - tensors[0][0] < 65536 and total + tensors[0][1] - tensors[0][0] <= MIB:
            total += tensors[0][1] - tensors[0][0]
            tensors.pop(0)
        lengths.append(total)
    return lengths


# 10. Ledger entry

CLASSES = ("open", "restricted", "admin", "pad")
REFKINDS = (None, "revokes", "erases", "freezes-namespace", "unrevokes")
NO_REFERENCE = (1 << 64) - 1


def read_origin(text):
    match = full(r"waag/([a-z2-7]{32})/(0|[1-9][0-9]{0,9})", text, "an origin")
    need(int(match.group(2)) < 1 << 32, "a series")
    return match.group(1), int(match.group(2))


def encode_leaf(kind, reference, commitment):
    refkind, ref = (REFKINDS.index(reference[0]), reference[1]) if reference else (0, NO_REFERENCE)
    return bytes([1, CLASSES.index(kind), refkind]) + struct.pack(">Q", ref) + commitment


def read_leaf(raw):
    rest = Bytes(raw)
    need(rest.number(1) == 1, "a leaf of version 1")
    kind, refkind, ref = rest.number(1), rest.number(1), rest.number(8)
    need(kind < 4 and refkind < 5, "an unknown class or kind of reference")
    need(ref == NO_REFERENCE if refkind == 0 else ref < INTEGER_MAX, "a reference")
    commitment = rest.take(32)
    rest.end()
    reference = [REFKINDS[refkind], ref] if refkind else None
    return {"class": CLASSES[kind], "reference": reference, "commitment": commitment}


def commit(origin, salt, opening):
    need(len(salt) == 32, "a salt")
    return hmac.new(salt, b"waag/commit/v1\0" + origin.encode() + b"\0" + opening, hashlib.sha256).digest()


def read_stream(text):
    full(r"[a-z0-9][a-z0-9-]{0,63}", text, "a stream")
    return text


def read_entry_id(text):
    full(r"[0-9a-f]{32}", text, "an entry id")
    return text


def read_opening(raw):
    rest = Bytes(raw)
    length = rest.number(4)
    need(length <= 4 * KIB, "a long header")
    header = shape(
        read_json(rest.take(length), 4 * KIB),
        v=natural, id=read_entry_id, prev=optional(natural), stream=read_stream, seq=natural, at=read_time)
    need(header["v"] == 1, "a header of version 1")
    length = rest.number(4)
    need(1 <= length <= 512 * KIB, "an envelope's length")
    envelope = rest.take(length)
    rest.end()
    return header, envelope


# 11. Tree, tiles, bundles

def leaf_hash(leaf):
    return sha256(b"\0" + leaf)


def node(left, right):
    return sha256(b"\1" + left + right)


def tree_hash(hashes):
    """RFC 6962, 2.1."""
    if not hashes:
        return sha256(b"")
    if len(hashes) == 1:
        return hashes[0]
    k = 1 << ((len(hashes) - 1).bit_length() - 1)
    return node(tree_hash(hashes[:k]), tree_hash(hashes[k:]))


def check_inclusion(leaf, index, size, path, root):
    """RFC 9162, 2.1.3.2."""
    need(index < size, "not in this tree")
    fn, sn, r = index, size - 1, leaf
    for p in path:
        need(sn != 0, "too many hashes")
        if fn & 1 or fn == sn:
            r = node(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node(r, p)
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0 and r == root, "the path does not lead to the root")


def check_consistency(old_size, old_root, new_size, new_root, path):
    """RFC 9162, 2.1.4.2."""
    need(old_size <= new_size, "a tree does not shrink")
    if old_size == 0 or old_size == new_size:
        need(not path, "hashes where none are needed")
        need(old_root == (sha256(b"") if old_size == 0 else new_root), "another root")
        need(new_size or new_root == sha256(b""), "another root")
        return
    if old_size & (old_size - 1) == 0:
        path = [old_root] + path
    need(path, "no hashes")
    fn, sn = old_size - 1, new_size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        need(sn != 0, "too many hashes")
        if fn & 1 or fn == sn:
            fr, sr = node(c, fr), node(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node(sr, c)
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0 and fr == old_root and sr == new_root, "the proof does not lead to the roots")


def group_number(number):
    groups = [f"{number % 1000:03}"]
    while number >= 1000:
        number //= 1000
        groups.insert(0, f"x{number % 1000:03}")
    return "/".join(groups)


def read_tile_path(text):
    match = full(r"tile/(entries|[0-6])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", text, "a tile's path")
    number = int(match.group(2).replace("x", "").replace("/", ""))
    need(group_number(number) == match.group(2), "a tile's path has one spelling")
    width = int(match.group(3) or 256)
    need(match.group(3) is None or width < 256, "a tile's width")
    return match.group(1), number, width


def tiles_of(hashes):
    """All tiles of a tree, by path."""
    tiles, level = {}, 0
    while hashes:
        for at in range(0, len(hashes), 256):
            part = hashes[at:at + 256]
            suffix = "" if len(part) == 256 else f".p/{len(part)}"
            tiles[f"tile/{level}/{group_number(at // 256)}{suffix}"] = b"".join(part)
        count = len(hashes) // 256
        hashes, level = [tree_hash(hashes[256 * i:256 * i + 256]) for i in range(count)], level + 1
    return tiles


# 12. Checkpoint

class VerifierKey:
    def __init__(self, text):
        parts = string(text).split("+", 2)
        need(len(parts) == 3, "a vkey")
        self.name, material = parts[0], unbase64(parts[2])
        check_key_name(self.name)
        need(len(material) == 33 and material[0] in (1, 4), "a vkey's kind")
        self.kind, self.key = material[0], check_key(material[1:])
        self.id = sha256(self.name.encode() + b"\n" + material)[:4]
        need(parts[1] == self.id.hex(), "a vkey's id")

    def under(self, name):
        """The same key under the name of another series."""
        material = bytes([self.kind]) + self.key
        key_id = sha256(name.encode() + b"\n" + material)[:4].hex()
        return VerifierKey(f"{name}+{key_id}+{base64.b64encode(material).decode()}")


def check_key_name(name):
    need(1 <= len(name.encode()) <= 256, "a key's name")
    need(not any(c.isspace() or ord(c) < 32 or 127 <= ord(c) < 160 or c == "+" for c in name), "a key's name")


class Checkpoint:
    """A checkpoint that one of the known ledger keys has signed."""

    def __init__(self, raw, log_key, witnesses=()):
        need(len(raw) <= 64 * KIB, "a long note")
        note = utf8(raw)
        text, gap, lines = note.rpartition("\n\n")
        need(gap and lines.endswith("\n"), "a note's form")
        text += "\n"
        need(not any(ord(c) < 32 and c != "\n" for c in text), "a control character")
        body = text[:-1].split("\n")
        need(len(body) >= 3 and all(body), "a checkpoint's lines")
        self.site, self.series = read_origin(body[0])
        full(r"0|[1-9][0-9]{0,15}", body[1], "a size")
        self.origin, self.size, self.root = body[0], int(body[1]), unbase64(body[2])
        need(self.size <= INTEGER_MAX and len(self.root) == 32, "a size or root")
        need(self.size or self.root == sha256(b""), "an empty tree's root")
        lines = lines[:-1].split("\n")
        need(len(lines) <= 32, "too many signatures")
        known = {(key.name, key.id): key for key in (log_key, *witnesses)}
        signed, self.cosignatures = False, []
        for line in lines:
            parts = line.split(" ")
            need(len(parts) == 3 and parts[0] == "—", "a signature line")
            check_key_name(parts[1])
            blob = unbase64(parts[2])
            need(len(blob) > 4, "a signature")
            key = known.get((parts[1], blob[:4]))
            if key is None:
                continue
            if key.kind == 1:
                verify_signature(key.key, text.encode(), blob[4:])
                signed = signed or key.name == self.origin
            else:
                time = int.from_bytes(blob[4:12], "big")
                verify_signature(key.key, f"cosignature/v1\ntime {time}\n{text}".encode(), blob[12:])
                self.cosignatures.append([key.name, time])
        need(signed and log_key.kind == 1 and log_key.name == self.origin, "the ledger did not sign")
        if self.series == 1:
            need(site_of(log_key.key) == self.site, "the key is not the origin's")


# 13. What a site stores

def read_slot(rest):
    length = rest.number(4)
    if length == 0:
        return None
    need(length <= 4 + 4 * KIB + 4 + 512 * KIB, "a long opening")
    salt, opening = rest.take(32), rest.take(length)
    read_opening(opening)
    return salt, opening


def read_pack(raw):
    rest, slots = Bytes(raw), []
    while rest.rest:
        slots.append(read_slot(rest))
    need(len(slots) <= 256, "too many slots")
    return slots


def read_commit(raw, origin):
    need(len(raw) <= 64 * MIB, "a long commit")
    rest = Bytes(raw)
    need(rest.take(8) == b"waagseq\1", "not a commit of version 1")
    before, after = (rest.number(8), rest.take(32)), (rest.number(8), rest.take(32))
    writer, nonce, count = rest.take(16).hex(), rest.take(16).hex(), rest.number(4)
    need(1 <= count <= 1024 and before[0] + count == after[0], "a number of entries")
    leaves = []
    for _ in range(count):
        leaf = rest.take(43)
        read, slot = read_leaf(leaf), read_slot(rest)
        need((slot is None) == (read["class"] == "pad"), "pads have no opening, others have")
        need(slot is None or commit(origin, *slot) == read["commitment"], "an opening does not fit")
        leaves.append(leaf)
    rest.end()
    return {"before": before, "after": after, "writer": writer, "nonce": nonce, "leaves": leaves}


# 14. Residency labels

COUNTRIES = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC
CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD
GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH
KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW
MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC
SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY
UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
""".split()
MEMBERS = {
    "EU": """1958-01-01 BE DE FR IT LU NL 1973-01-01 DK GB IE 1981-01-01 GR 1986-01-01 ES PT 1995-01-01 AT FI SE
             2004-05-01 CY CZ EE HU LT LV MT PL SI SK 2007-01-01 BG RO 2013-07-01 HR""",
    "EEA": """1994-01-01 AT BE DE DK ES FI FR GB GR IE IS IT LU NL NO PT SE 1995-05-01 LI
              2004-05-01 CY CZ EE HU LT LV MT PL SI SK 2007-08-01 BG RO 2014-04-12 HR""",
}
ACTIONS = ("hold", "serve", "evaluate")


def is_member(group, country, day):
    since = None
    for word in MEMBERS[group].split():
        if len(word) > 2:
            since = word
        elif word == country:
            return since <= day and not (country == "GB" and day >= "2020-02-01")
    return False


def read_where(text):
    need(isinstance(text, str), "a place is text")
    if text.startswith("site:"):
        read_site(text[5:])
    elif text.startswith("group:"):
        read_word(31, text[6:])
    else:
        need(text in ("*", "EU", "EEA") or text in COUNTRIES, f"the place {text[:20]!r}")
    return text


def read_actions(value):
    actions = listed(one_of(*ACTIONS))(value)
    need(actions, "a rule without actions")
    return [action for action in ACTIONS if action in actions]


def read_rule(value):
    return shape(value, effect=one_of("allow", "deny"), where=read_where, actions=read_actions)


def read_label(value):
    label = shape(value, rules=listed(read_rule))
    need(1 <= len(label["rules"]) <= 64, "1 to 64 rules")
    return label


def matches(where, place, time, groups, unknown):
    country = place.get("jurisdiction")
    if where.startswith("group:"):
        rows = next((group["members"] for group in groups if group["name"] == where[6:]), None)
        if rows is None:
            return unknown
        return any(row["country"] == country and row["from"] <= time and (row["until"] is None or time < row["until"])
                   for row in rows)
    if where == "*":
        return True
    if where.startswith("site:"):
        return place["kind"] == "site" and place["id"] == where[5:]
    if where in MEMBERS:
        return country is not None and is_member(where, country, time[:10])
    return country == where


def decide(labels, home, time, action, place, groups=()):
    def home_only(label):
        if place["kind"] == "site" and place["id"] == home:
            return {"reason": "at_home", "label": label}
        if place["kind"] == "consumer" and action == "serve":
            return {"reason": "served_from_home", "label": label}
        return {"reason": "not_at_home", "label": label, "home": home, "action": action, "place": place}

    def judge(number, rules):
        for effect, reason in (("deny", "denied_by"), ("allow", "allowed_by")):
            for index, rule in enumerate(rules):
                if rule["effect"] == effect and action in rule["actions"] and matches(
                        rule["where"], place, time, groups, effect == "deny"):
                    return {"reason": reason, "label": number, "rule": index, "cited": rule}
        if any(rule["effect"] == "allow" for rule in rules):
            return {"reason": "no_rule_matches", "label": number, "action": action, "place": place}
        return home_only(number)

    reasons = [judge(number, read_label(label)["rules"]) for number, label in enumerate(labels)] or [home_only(None)]
    allowed = all(reason["reason"] in ("allowed_by", "at_home", "served_from_home") for reason in reasons)
    return allowed, reasons


# 16. Proofs that travel

def read_reference_kind(value):
    need(isinstance(value, list) and len(value) == 2, "a reference")
    return [one_of(*REFKINDS[1:])(value[0]), natural(value[1])]


def read_hash(text):
    raw = unbase64(text)
    need(len(raw) == 32, "a hash")
    return raw


def check_entry(entry, checkpoint):
    """Checks that an entry is in the checkpoint's tree; returns its index, header and envelope."""
    read = shape(
        entry, index=natural, class_=one_of(*CLASSES[:3]), reference=optional(read_reference_kind), salt=read_hash,
        opening=unbase64, path=listed(read_hash))
    commitment = commit(checkpoint.origin, read["salt"], read["opening"])
    leaf = leaf_hash(encode_leaf(read["class"], read["reference"], commitment))
    check_inclusion(leaf, read["index"], checkpoint.size, read["path"], checkpoint.root)
    header, envelope = read_opening(read["opening"])
    return read["index"], header, envelope


def read_proof(value):
    def part(value):
        return shape(value, checkpoint=string, entries=listed(lambda entry: entry))

    if "earlier" not in value:
        value = {**value, "earlier": []}
    if "site_key" not in value:
        value = {**value, "site_key": None}
    return shape(value, checkpoint=string, entries=listed(lambda entry: entry), earlier=listed(part),
                 site_key=optional(string))


def read_site_key(note, site, log_key):
    """The key that a site signs with, by a note of the ledger's key."""
    text, gap, lines = note.rpartition("\n\n")
    text += "\n"
    first, second, rest = (text.split("\n", 2) + ["", ""])[:3]
    need(gap and first == f"waag/{site}/keys" and second.startswith("site ") and rest == "", "a note of a site's key")
    signed = False
    for line in lines.removesuffix("\n").split("\n"):
        parts = line.split(" ")
        need(len(parts) == 3 and parts[0] == "—", "a signature line")
        blob = unbase64(parts[2])
        if (parts[1], blob[:4]) == (log_key.name, log_key.id):
            verify_signature(log_key.key, text.encode(), blob[4:])
            signed = True
    need(signed, "the ledger's key did not sign the site's")
    return read_key(second.removeprefix("site "))


def check_parts(proof, site, log_key):
    """Checks every entry of every series; returns the newest checkpoint and (entry's number, envelope) of each."""
    proven, ended = [], None
    for part in [*proof["earlier"], proof]:
        name = part["checkpoint"].split("\n")[0]
        owner, series = read_origin(name)
        need(owner == site and series >= 1, "another site's ledger")
        checkpoint = Checkpoint(part["checkpoint"].encode(), log_key.under(name))
        first = len(proven)
        for item in part["entries"]:
            index, _, raw = check_entry(item, checkpoint)
            envelope = Envelope(raw)
            if Statement(envelope.payload).predicate == "successor":
                need(index == 0 and series > 1, "no successor begins here")
                envelope.check([log_key.key], 1)
            proven.append(((series - 1) * 10**12 + index, raw))
        if ended is not None:
            need(len(proven) > first, "it does not show what follows")
            says = Statement(Envelope(proven[first][1]).payload)
            need(says.predicate == "successor", "it does not show what follows")
            need((says.says["origin"], says.says["size"], says.says["root"]) ==
                 (read_origin(ended.origin), ended.size, ended.root), "it continues another ledger")
        ended = checkpoint
    return checkpoint, proven


def packed_files(manifest, directory):
    """The files that travel packed, by the list that lies beside the proof."""
    if manifest.list is None:
        return []
    with open(os.path.join(directory, ".waag", "files.json"), "rb") as opened:
        raw = opened.read(64 * MIB + 1)
    need(sha256_text(raw) == manifest.list["digest"], "another list of files")
    value = shape(read_json(raw, 64 * MIB), layers=listed(lambda layer: shape(
        layer, digest=read_sha256, files=listed(lambda entry: entry))), version=natural)
    need(value["version"] == 1, "version 1")
    need([layer["digest"] for layer in value["layers"]] == [tar["digest"] for tar in manifest.tars], "other tars")
    files = [{"path": read_path(path), "digest": read_sha256(digest), "size": natural(size)}
             for layer in value["layers"] for path, digest, size, _ in layer["files"]]
    whole = files + manifest.files
    check_paths([file["path"] for file in whole])
    need((len(whole), sum(file["size"] for file in whole)) == manifest.totals, "other totals")
    return files


def check_kept(kept, log_key):
    """Checks a proof.json against the pinned key; everything but the files themselves."""
    kept = shape(kept, version=natural, site=read_site, artifact=read_artifact, asked=read_version, manifest=unbase64,
                 proof=read_proof)
    need(kept["version"] == 1, "version 1")
    site, artifact, asked = kept["site"], kept["artifact"], kept["asked"]
    need(log_key.kind == 1 and log_key.name == f"waag/{site}/1" and site_of(log_key.key) == site, "another site's key")
    manifest = Manifest(kept["manifest"])

    namespace, last, chain = None, -1, FIRST_LINK
    release = entry = label = withdrawn = tagged = None
    revoked, weighed = [], []
    site_key = kept["proof"]["site_key"]
    site_key = site_key and read_site_key(site_key, site, log_key)
    checkpoint, proven = check_parts(kept["proof"], site, log_key)
    for index, raw in proven:
        need(index > last, "not in the ledger's order")
        last = index
        envelope = Envelope(raw)
        statement = Statement(envelope.payload)
        if statement.predicate == "successor":
            continue
        if statement.predicate == "revocation-list":
            if site_key:
                envelope.check([site_key], 1)
            revoked = statement.says["entries"]
            continue
        if statement.predicate == "scorecard":
            need((statement.name, statement.digest) == (artifact, manifest.digest), "another release's scorecard")
            need(site_key, "nothing says which key the site signs with")
            envelope.check([site_key], 1)
            weighed.append(index)
            continue
        need(statement.name.split("/")[0] == artifact.split("/")[0], "another namespace's")
        if namespace is None:
            namespace = NamespaceState(envelope, site)
            continue
        need(statement.predicate != "namespace", "the namespace begins twice")
        if statement.predicate == "rotation":
            namespace.rotate(envelope)
            continue
        if statement.predicate in ("gate", "access"):
            namespace.gate(envelope)
            continue
        need(statement.name == artifact, "another artifact's")
        namespace.check(envelope, statement)
        link = statement.says["link"]
        need(link["counter"] > chain["counter"], "a replay")
        if link["counter"] == chain["counter"] + 1:
            need(link["previous"] == chain["head"], "a fork")
        chain = {"counter": link["counter"], "head": envelope.digest}
        ours = statement.digest == manifest.digest
        if statement.predicate == "release" and ours and release is None:
            release, entry = statement, index
        elif statement.predicate == "tag" and statement.says["tag"] == asked:
            tagged = statement.digest
        elif statement.predicate == "residency":
            label = statement.says["label"]
        elif statement.predicate == "withdrawal" and ours:
            withdrawn = statement.says["reason"]
    need(namespace is not None, "no namespace")
    need(manifest.digest == (asked if asked.startswith("sha256:") else tagged), "not the manifest that was asked for")
    need(release is not None, "no release")
    manifest.fits(release)
    if entry in revoked and withdrawn is None:
        withdrawn = "the site lists it as withdrawn"
    return {"manifest": manifest, "release": release, "entry": entry, "label": label, "withdrawn": withdrawn,
            "checkpoint": checkpoint, "namespace": namespace, "weighed": weighed}


def check_recipe(raw, content):
    """Makes the recipe of a file that was cut by its planner's rules; it must have the name that was signed."""
    if content["planner"] == "fastcdc-1":
        lengths = fastcdc_cuts(raw)
    elif content["planner"] == "gguf-1":
        lengths = gguf_cuts(raw, len(raw))
    else:
        need(len(raw) >= 8, "no safetensors")
        length = int.from_bytes(raw[:8], "little")
        need(length <= len(raw) - 8, "no safetensors")
        lengths = tensor_cuts(raw[8:8 + length], len(raw))
    pieces, at = [], 0
    for length in lengths:
        pieces.append((blake3(raw[at:at + length]), 0, length))
        at += length
    need(at == len(raw), "the cuts do not add up")
    need(blake3(write_recipe(content["planner"], pieces)) == content["recipe"], "another recipe")


# BLAKE3 takes this Python about three seconds for a MiB.
RECIPE_MAX = 4 * MIB


def pull(directory, log_key):
    with open(os.path.join(directory, ".waag", "proof.json"), "rb") as file:
        raw = file.read(32 * MIB + 1)
    need(len(raw) <= 32 * MIB, "a long proof")
    try:
        kept = json.loads(utf8(raw))
    except (ValueError, RecursionError) as error:
        raise Refused(f"proof.json is not JSON: {error}") from None
    proven = check_kept(kept, VerifierKey(log_key))
    contents = {content["sha256"]: content for content in proven["release"].says["content"]}
    recipes = 0
    files = proven["manifest"].files + packed_files(proven["manifest"], directory)
    for file in files:
        path = os.path.join(directory, *file["path"].split("/"))
        need(os.path.isfile(path) and not os.path.islink(path), f"{file['path']} is not there")
        need(os.path.getsize(path) == file["size"], f"{file['path']} has another size")
        hasher = hashlib.sha256()
        with open(path, "rb") as opened:
            while part := opened.read(MIB):
                hasher.update(part)
        need("sha256:" + hasher.hexdigest() == file["digest"], f"{file['path']} has another digest")
        if file["size"] <= RECIPE_MAX and file["digest"] in contents:
            with open(path, "rb") as opened:
                check_recipe(opened.read(), contents[file["digest"]])
            recipes += 1
    print(json.dumps({
        "verified": True, "manifest": proven["manifest"].digest, "files": len(files),
        "recipes": recipes, "entry": proven["entry"], "size": proven["checkpoint"].size,
        "namespace": proven["namespace"].id, "label": proven["label"], "withdrawn": proven["withdrawn"],
        "weighed": proven["weighed"],
    }))


# Vectors

class Checks:
    """Counts what was checked; says what was not as it should be."""

    def __init__(self):
        self.count, self.failed = 0, []

    def holds(self, what, run):
        self.count += 1
        try:
            run()
        except Refused as error:
            self.failed.append(f"{what}: refused: {error}")

    def equal(self, what, run, expected):
        def compare():
            found = run()
            need(found == expected, f"found {found!r}, expected {expected!r}")
        self.holds(what, compare)

    def refused(self, what, run):
        self.count += 1
        try:
            run()
        except Refused:
            return
        self.failed.append(f"{what}: not refused")


def noise(seed, length):
    blocks = range((length + 31) // 32)
    return b"".join(sha256(struct.pack(">QQ", seed, i)) for i in blocks)[:length]


def check_base(checks, v):
    for row in v["digests"]:
        raw = bytes(i % 251 for i in range(row["length"]))
        checks.equal("SHA-256", lambda: sha256_text(raw), row["sha256"])
        checks.equal("BLAKE3", lambda: blake3(raw), row["blake3"])
    for row in v["keys"]:
        key = bytes.fromhex(row["raw"])
        checks.equal("key", lambda: read_key(row["text"]), key)
        checks.equal("key with a comment", lambda: read_key(row["text"] + " me@here"), key)
        checks.equal("key's text", lambda: key_text(key), row["text"])
        checks.equal("fingerprint", lambda: fingerprint(key), row["fingerprint"])
        checks.equal("site id", lambda: site_of(key), row["site_id"])
        checks.holds("signature", lambda: verify_signature(
            key, row["message"].encode(), bytes.fromhex(row["signature"])))
    for text in v["keys_refused"]:
        checks.refused(f"key {text}", lambda: read_key(text))
    for row in v["signatures_refused"]:
        checks.refused(f"signature: {row['why']}", lambda: verify_signature(
            read_key(row["key"]), row["message"].encode(), bytes.fromhex(row["signature"])))
    readers = {"namespace": read_namespace, "artifact": read_artifact, "tag": read_tag, "site": read_site,
               "path": read_path, "reference": read_reference}
    need(set(readers) == set(v["names"]), "other kinds of names")
    for kind, rows in v["names"].items():
        for text in rows["accepted"]:
            checks.holds(f"{kind} {text!r}", lambda: readers[kind](text))
        for text in rows["refused"]:
            checks.refused(f"{kind} {text!r}", lambda: readers[kind](text))
    for paths in v["path_sets"]["accepted"]:
        checks.holds(f"paths {paths}", lambda: check_paths(paths))
    for paths in v["path_sets"]["refused"]:
        checks.refused(f"paths {paths}", lambda: check_paths(paths))
    for text, unix in v["times"]["accepted"]:
        checks.equal("time", lambda: read_time(text), unix)
    for text in v["times"]["refused"]:
        checks.refused(f"time {text}", lambda: read_time(text))
    for text in v["json"]["accepted"]:
        checks.holds(f"JSON {text}", lambda: read_json(text.encode(), 4096))
    for text in v["json"]["refused"]:
        checks.refused(f"JSON {text}", lambda: read_json(text.encode(), 4096))


def check_content(checks, v):
    for row in v["chunks"]:
        stored = bytes.fromhex(row["stored"])
        checks.equal("chunk's header", lambda: [read_chunk(stored)[key] for key in ("encoding", "raw_length", "base")],
                     [row["encoding"], row["raw_length"], row.get("base")])
        if row.get("compressed"):
            checks.refused("compressed block", lambda: decode_chunk(stored))
        elif "raw" in row:
            checks.equal(f"chunk: {row['why']}", lambda: decode_chunk(stored).hex(), row["raw"])
            checks.equal("chunk's digest", lambda: blake3(decode_chunk(stored)), row["chunk"])
    for row in v["chunks_refused"]:
        checks.refused(f"chunk: {row['why']}", lambda: decode_chunk(bytes.fromhex(row["stored"])))
    for row in v["frames"]:
        expected = [(frame["chunk"], bytes.fromhex(frame["stored"])) for frame in row["frames"]]
        checks.equal("frames", lambda: read_frames(bytes.fromhex(row["bytes"])), expected)
    for row in v["frames_refused"]:
        checks.refused(f"frames: {row['why']}", lambda: read_frames(bytes.fromhex(row["bytes"])))
    for row in v["recipes"]:
        raw = bytes.fromhex(row["bytes"])
        pieces = [tuple(piece) for piece in row["pieces"]]
        checks.equal("recipe", lambda: read_recipe(raw),
                     {"planner": row["planner"], "size": row["size"], "pieces": pieces})
        checks.equal("recipe's bytes", lambda: write_recipe(row["planner"], pieces), raw)
        checks.equal("recipe's name", lambda: blake3(raw), row["digest"])
        chunks = {blake3(chunk.encode()): chunk for chunk in row["chunks"]}
        checks.equal("recipe's file",
                     lambda: "".join(chunks[c][offset:offset + length] for c, offset, length in pieces), row["file"])
    for row in v["challenges"]:
        raw = lambda text: bytes.fromhex(text.removeprefix("sha256:"))
        parts = [(raw(part["file"]), part["offset"], raw(part["bytes"])) for part in row["parts"]]
        checks.equal(f"challenge: {row['why']}",
                     lambda: answer_to(raw(row["nonce"]), row["site"], raw(row["manifest"]), parts), row["answer"])
    for row in v["recipes_refused"]:
        checks.refused(f"recipe: {row['why']}", lambda: read_recipe(bytes.fromhex(row["bytes"])))
    for row in v["fastcdc"]:
        given = row["input"]
        raw = bytes(given["zeros"]) if "zeros" in given else noise(given["noise"], given["length"])
        checks.equal(f"fastcdc-1 of {given}", lambda: fastcdc_cuts(raw), row["lengths"])
    for row in v["tensors"]:
        checks.equal("tensors-1", lambda: tensor_cuts(row["header"].encode(), row["size"]), row["lengths"])
    for row in v["tensors_refused"]:
        checks.refused(f"safetensors: {row['why']}", lambda: tensor_cuts(row["header"].encode(), row["size"]))
    for row in v["gguf"]:
        checks.equal("gguf-1", lambda: gguf_cuts(bytes.fromhex(row["header"]), row["size"]), row["lengths"])
    for row in v["gguf_refused"]:
        checks.refused(f"GGUF: {row['why']}", lambda: gguf_cuts(bytes.fromhex(row["header"]), row["size"]))


ROLE_WORDS = {"weight": "Weight", "weight.config": "WeightConfig", "doc": "Doc", "code": "Code", "dataset": "Dataset"}
PACKING_WORDS = {"raw": "Raw", "tar": "Tar", "tar+gzip": "TarGzip", "tar+zstd": "TarZstd"}


def check_release(checks, v):
    for row in v["manifests"]:
        def view():
            manifest = Manifest(row["manifest"].encode())
            files = [{**file, "role": ROLE_WORDS[file["role"]], "packing": PACKING_WORDS[file["packing"]]}
                     for file in manifest.files]
            return [manifest.digest, manifest.kind, manifest.config[0], files, manifest.base, manifest.data]
        checks.equal("manifest", view, [row["digest"], row["kind"], row["config_digest"], row["files"], row["base"],
                                        row["data"]])
        if row["config"] is not None:
            checks.equal("config", lambda: sha256_text(row["config"].encode()), row["config_digest"])
    for row in v["manifests_refused"]:
        checks.refused(f"manifest: {row['why']}", lambda: Manifest(row["manifest"].encode()))


def check_statements(checks, v):
    for row in v["pae"]:
        checks.equal("PAE", lambda: pae(row["payload"].encode(), PAYLOAD_TYPE), bytes.fromhex(row["pae"]))
    for row in v["statements"]:
        checks.equal("statement", lambda: Statement(row["payload"].encode()).predicate, row["predicate"])
        checks.equal("payload", lambda: Envelope(row["envelope"].encode()).payload, row["payload"].encode())
        checks.equal("envelope's digest", lambda: Envelope(row["envelope"].encode()).digest, row["envelope_digest"])
        checks.equal("payload's digest", lambda: sha256_text(row["payload"].encode()), row["payload_digest"])
    for row in v["payloads_refused"]:
        checks.refused(f"payload: {row['why']}", lambda: Statement(row["payload"].encode()))

    def verification_result(row):
        """As somebody who knows in-toto and DSSE only, once the key is known."""
        envelope = Envelope(row["envelope"].encode())
        envelope.check([read_site_key(row["site_key"], row["site"], VerifierKey(row["log_key"]))], 1)
        said = json.loads(envelope.payload)
        need(said["_type"] == "https://in-toto.io/Statement/v1", "a statement")
        need(said["predicateType"] == "https://in-toto.io/attestation/svr/v0.1", "a verification result")
        predicate = said["predicate"]
        verifier = predicate["verifier"]
        need(verifier["id"] == f"urn:waag:site:{row['site']}:gates:1", "its verifier")
        read_time(predicate["timeCreated"])
        need(len(verifier["policies"]) == len(predicate["properties"]), "a policy for each property")
        for one in [*verifier["policies"], *predicate["waagScorecards"]]:
            full(f"urn:waag:entry:{row['site']}:([0-9]+)", one["uri"], "an entry")
            full(r"([0-9a-f]{64})", one["digest"]["sha256"], "a digest")
        rests_on = {one["digest"]["sha256"] for one in [*verifier["policies"], *predicate["waagScorecards"]]}
        said_before = {hashlib.sha256(row["payload"].encode()).hexdigest() for row in v["statements"]}
        need(rests_on <= said_before, "it rests on what is signed")
        return [predicate["properties"], [s["digest"]["sha256"] for s in said["subject"]]]
    row = v["verification_result"]
    checks.equal("verification result", lambda: verification_result(row),
                 [row["properties"], [row["manifest"].removeprefix("sha256:")]])
    other = row["site_key"].replace("site ssh", "site  ssh")
    checks.refused("verification result under another note", lambda: verification_result({**row, "site_key": other}))
    checks.refused("verification result, as a statement",
                   lambda: Statement(Envelope(row["envelope"].encode()).payload))

    def verify(row):
        Envelope(row["envelope"].encode()).check([read_key(key) for key in row["keys"]], row["threshold"])
    for row in v["envelopes"]:
        checks.holds(f"envelope: {row['why']}", lambda: verify(row))
    for row in v["envelopes_refused"]:
        checks.refused(f"envelope: {row['why']}", lambda: verify(row))

    def run(row, first, then):
        """Returns the state, or at which envelope it was refused."""
        state = None
        for index, text in enumerate(row["envelopes"]):
            try:
                envelope = Envelope(text.encode())
                state = first(envelope) if state is None else then(state, envelope)
            except Refused:
                return index
        return state

    for row in v["namespaces"]:
        def turn(state, envelope):
            state.rotate(envelope)
            return state
        state = run(row, lambda envelope: NamespaceState(envelope, v["site"]), turn)
        if row["refused_at"] is not None:
            checks.equal(f"namespace: {row['why']}", lambda: state, row["refused_at"])
            continue
        if isinstance(state, int):
            checks.equal(f"namespace: {row['why']}", lambda: state, None)
            continue
        checks.equal(
            f"namespace: {row['why']}",
            lambda: [state.id, [key_text(key) for key in state.keys["owners"]], state.keys["threshold"], state.chain],
            [row["id"], row["owners"], row["threshold"], row["chain"]])
    for row in v["chains"]:
        namespace = NamespaceState(Envelope(row["genesis"].encode()), v["site"])

        def admit(chain, envelope):
            statement = Statement(envelope.payload)
            namespace.check(envelope, statement)
            return follow(chain, statement.says["link"], envelope)
        found = run(row, lambda envelope: admit(FIRST_LINK, envelope), admit)
        checks.equal(f"chain: {row['why']}", lambda: found if isinstance(found, int) else None, row["refused_at"])


def check_ledger(checks, v):
    for row in v["vkeys"]:
        def view():
            key = VerifierKey(row["vkey"])
            return [key.name, key.kind, key_text(key.key), key.id.hex()]
        checks.equal("vkey", view, [row["name"], row["kind"], row["key"], row["id"]])
    for text in v["vkeys_refused"]:
        checks.refused(f"vkey {text}", lambda: VerifierKey(text))
    for text in v["origins_refused"]:
        checks.refused(f"origin {text}", lambda: read_origin(text))
    for row in v["entries"]:
        leaf = bytes.fromhex(row["leaf"])
        expected = {"class": row["class"], "reference": row["reference"], "commitment": read_hash(row["commitment"])}
        checks.equal("leaf", lambda: read_leaf(leaf), expected)
        checks.equal("leaf's bytes", lambda: encode_leaf(*expected.values()), leaf)
        checks.equal("leaf's hash", lambda: b64(leaf_hash(leaf)), row["leaf_hash"])
        if "opening" in row:
            opening = bytes.fromhex(row["opening"])
            checks.equal("commitment", lambda: b64(commit(row["origin"], read_hash(row["salt"]), opening)),
                         row["commitment"])
            checks.equal("opening", lambda: read_opening(opening)[1], row["envelope"].encode())
    for row in v["openings_refused"]:
        checks.refused(f"opening: {row['why']}", lambda: read_opening(bytes.fromhex(row["opening"])))
    for row in v["leaves_refused"]:
        checks.refused(f"leaf: {row['why']}", lambda: read_leaf(bytes.fromhex(row["leaf"])))
    numbered = [leaf_hash(struct.pack(">Q", i)) for i in range(1024)]
    for row in v["trees"]:
        checks.equal("root", lambda: b64(tree_hash(numbered[:row["size"]])), row["root"])
    for row in v["inclusion"]:
        proof = row["proof"]
        check = checks.holds if row["holds"] else checks.refused
        check(f"inclusion: {row['why']}", lambda: check_inclusion(
            read_hash(row["leaf_hash"]), proof["index"], proof["size"], [read_hash(h) for h in proof["path"]],
            read_hash(row["root"])))
    for row in v["consistency"]:
        old, new, path = row["old"], row["new"], [read_hash(h) for h in row["path"]]
        check = checks.holds if row["holds"] else checks.refused
        check(f"consistency: {row['why']} {old['size']} {new['size']}", lambda: check_consistency(
            old["size"], read_hash(old["root"]), new["size"], read_hash(new["root"]), path))
    for text in v["tile_paths"]["accepted"]:
        checks.holds(f"tile path {text}", lambda: read_tile_path(text))
    for text in v["tile_paths"]["refused"]:
        checks.refused(f"tile path {text}", lambda: read_tile_path(text))
    tiles = tiles_of(numbered[:v["tiles"]["size"]])
    checks.equal("tiles", lambda: {path: sha256_text(raw) for path, raw in tiles.items()},
                 {row["path"]: row["sha256"] for row in v["tiles"]["tiles"]})
    check_stored(checks, v)

    def checkpoint(row):
        return Checkpoint(row["note"].encode(), VerifierKey(row["log_key"]), [VerifierKey(w) for w in row["witnesses"]])
    for row in v["checkpoints"]:
        def view():
            found = checkpoint(row)
            return [found.size, b64(found.root), found.cosignatures]
        checks.equal(f"checkpoint: {row['why']}", view, [row["size"], row["root"], row["cosignatures"]])
    for row in v["checkpoints_refused"]:
        checks.refused(f"checkpoint: {row['why']}", lambda: checkpoint(row))


def check_stored(checks, v):
    row, origin = v["commit"], v["entries"][0]["origin"]

    def view():
        found = read_commit(bytes.fromhex(row["bytes"]), origin)
        hashes = [leaf_hash(leaf) for leaf in found["leaves"]]
        need(found["before"] == (0, tree_hash([])) and found["after"] == (len(hashes), tree_hash(hashes)), "its roots")
        bundle = b"".join(struct.pack(">H", len(leaf)) + leaf for leaf in found["leaves"])
        tree = {"size": found["after"][0], "root": b64(found["after"][1])}
        return [f"seq/{found['before'][0]:020}", found["writer"], found["nonce"], tree, bundle.hex()]
    checks.equal("commit", view, [row["key"], row["writer"], row["nonce"], row["after"], row["bundle"]["bytes"]])
    checks.equal("bundle's path", lambda: list(read_tile_path(row["bundle"]["path"])), ["entries", 0, 5])
    checks.refused("commit of another ledger", lambda: read_commit(bytes.fromhex(row["bytes"]), origin[:-1] + "2"))
    for row in v["packs"]:
        slots = [None if slot is None else (read_hash(slot["salt"]), bytes.fromhex(slot["opening"]))
                 for slot in row["slots"]]
        checks.equal("pack", lambda: read_pack(bytes.fromhex(row["bytes"])), slots)
        for seq, path, slot in row["paths"]:
            checks.equal("pack's path", lambda: [f"body/{row['stream']}/{group_number(seq // 256)}", seq % 256],
                         [path, slot])
    for row in v["packs_refused"]:
        checks.refused(f"pack: {row['why']}", lambda: read_pack(bytes.fromhex(row["pack"])))


def check_policy(checks, v):
    for label in v["labels_refused"]:
        checks.refused(f"label {label}", lambda: read_label(label))
    for row in v["verdicts"]:
        checks.equal("verdict", lambda: decide(row["labels"], row["home"], row["at"], row["action"], row["place"]),
                     (row["allowed"], row["reasons"]))


def read_word(longest, value):
    full(r"[a-z0-9]+(-[a-z0-9]+)*", string(value), "a name")
    need(len(value) <= longest, "a longer name")
    return value


def read_address(value):
    need(len(string(value)) <= 256, "a longer address")
    match = full(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:([1-9][0-9]{0,4}))?((/[A-Za-z0-9._~-]+)*)",
                 value, "an address")
    port = match.group(5)
    need(port is None or (int(port) < 1 << 16 and int(port) != {"http": 80, "https": 443}[match.group(1)]), "a port")
    need(not {".", ".."} & set(match.group(6).split("/")), "a path")
    return value


def read_owned(value):
    stem = string(value).removesuffix("-*")
    if stem == value:
        return read_namespace(value)
    read_word(37, stem)
    return value


def read_country(value):
    need(string(value) in COUNTRIES, "a country")
    return value


def read_member(value):
    row = shape(value, country=read_country, from_=lambda t: read_time(t) and t, until=optional(lambda t: read_time(t) and t))
    need(row["until"] is None or row["from"] < row["until"], "a membership ends before it begins")
    return row


def overlap(a, b):
    if a.endswith("*") and b.endswith("*"):
        return a.startswith(b[:-1]) or b.startswith(a[:-1])
    if a.endswith("*"):
        return b.startswith(a[:-1])
    return a.startswith(b[:-1]) if b.endswith("*") else a == b


def read_charter_site(value):
    site = shape(
        value, id=read_site, name=lambda name: read_word(31, name), jurisdiction=read_country, url=read_address,
        ledgers=listed(lambda ledger: shape(ledger, key=VerifierKey, ends=optional(
            lambda end: shape(end, size=natural, root=read_root)))),
        site_key=read_key, witness_key=VerifierKey, owns=listed(read_owned), recovery=listed(read_key))
    need(1 <= len(site["ledgers"]) <= 16 and len(site["owns"]) <= 256 and len(site["recovery"]) <= 8, "a number")
    last = 0
    for ledger in site["ledgers"]:
        of, series = read_origin(ledger["key"].name)
        need(of == site["id"] and ledger["key"].kind == 1 and series > last, "a ledger of another site, or out of order")
        need(series != 1 or site_of(ledger["key"].key) == site["id"], "the first log key is another site's")
        last = series
    need(all(ledger["ends"] for ledger in site["ledgers"][:-1]), "a ledger without an end")
    witness = site["witness_key"]
    need(witness.kind == 4 and witness.name == f"waag/{site['id']}/witness", "a witness key")
    return site


def read_terms(value):
    terms = shape(
        value, federation=lambda name: read_word(63, name), version=natural, previous=optional(read_sha256),
        expires=read_time, root=lambda root: shape(root, keys=listed(read_key), threshold=natural),
        sites=listed(read_charter_site), witnesses=lambda w: shape(w, jurisdictions=natural),
        groups=listed(lambda group: shape(group, name=lambda name: read_word(31, name), members=listed(read_member))))
    sites, root = terms["sites"], terms["root"]
    need(terms["version"] >= 1 and (terms["version"] == 1) == (terms["previous"] is None), "a version")
    need(1 <= len(root["keys"]) <= 32 and 1 <= root["threshold"] <= len(root["keys"]), "a threshold")
    need(1 <= len(sites) <= 256 and len(terms["groups"]) <= 16, "a number")
    need(all(1 <= len(group["members"]) <= 512 for group in terms["groups"]), "a number of members")
    for names in ([group["name"] for group in terms["groups"]], *([site[key] for site in sites] for key in ("id", "name", "url"))):
        need(len(names) == len(set(names)), "something stands twice")
    keys = list(root["keys"])
    for site in sites:
        keys += {ledger["key"].key for ledger in site["ledgers"]}
        keys += [site["site_key"], site["witness_key"].key, *site["recovery"]]
    need(len(keys) == len(set(keys)), "a key has two roles")
    owned = [name for site in sites for name in site["owns"]]
    need(not any(overlap(a, b) for i, a in enumerate(owned) for b in owned[:i]), "namespaces overlap")
    need(terms["witnesses"]["jurisdictions"] < len({site["jurisdiction"] for site in sites}), "too many witnesses")
    return terms


class Charter:
    def __init__(self, raw, before=None):
        self.envelope = Envelope(raw, CHARTER_TYPE, 1024 * KIB)
        self.digest = sha256_text(self.envelope.payload)
        self.terms = read_terms(read_json(self.envelope.payload, 1024 * KIB))
        self.envelope.check(self.terms["root"]["keys"], self.terms["root"]["threshold"])
        if before is not None:
            known = before.terms
            need(self.terms["federation"] == known["federation"], "another federation")
            need(self.terms["version"] == known["version"] + 1, "not the next version")
            self.envelope.check(known["root"]["keys"], known["root"]["threshold"])
            need(self.terms["previous"] == before.digest, "it follows another charter")


def check_federation(checks, v):
    first = Charter(v["first"]["envelope"].encode())
    checks.equal("first charter", lambda: (first.digest, first.terms["version"]), (v["first"]["sha256"], 1))
    checks.equal("next charter", lambda: Charter(v["next"]["envelope"].encode(), first).digest, v["next"]["sha256"])
    for row in v["first_refused"]:
        checks.refused(f"charter: {row['why']}", lambda: Charter(row["envelope"].encode()))
    for row in v["next_refused"]:
        checks.refused(f"next charter: {row['why']}", lambda: Charter(row["envelope"].encode(), first))
    for row in v["documents_refused"]:
        checks.refused(f"charter's document: {row['why']}", lambda: read_terms(row["document"]))
    for row in v["verdicts"]:
        checks.equal("verdict with groups", lambda: decide(
            row["labels"], row["home"], row["at"], row["action"], row["place"], row["groups"]),
            (row["allowed"], row["reasons"]))


def check_proof(checks, v):
    log_key = VerifierKey(v["log_key"])
    for row in v["kept"]:
        def view():
            found = check_kept(row["proof"], log_key)
            contents = {content["sha256"]: content for content in found["release"].says["content"]}
            for path, text in v["files"]:
                file = next(file for file in found["manifest"].files if file["path"] == path)
                need(sha256_text(text.encode()) == file["digest"], "a file's digest")
                check_recipe(text.encode(), contents[file["digest"]])
            return [found["entry"], found["withdrawn"], len(found["label"]["rules"])]
        checks.equal(f"proof: {row['why']}", view, [row["entry"], row["withdrawn"], row["rules"]])
    for row in v["kept_refused"]:
        checks.refused(f"proof: {row['why']}", lambda: check_kept(row["proof"], log_key))

    def tlog():
        head, gap, note = v["tlog_proof"]["text"].partition("\n\n")
        lines = head.split("\n")
        need(gap and lines[0] == "c2sp.org/tlog-proof@v1", "a tlog-proof")
        need(lines[1].startswith("extra ") and lines[2].startswith("index "), "a tlog-proof")
        rest = Bytes(unbase64(lines[1][6:]))
        kind, refkind, ref, salt = rest.number(1), rest.number(1), rest.number(8), rest.take(32)
        need(refkind == 0 and ref == NO_REFERENCE, "a reference")
        entry = {"index": int(lines[2][6:]), "class": CLASSES[kind], "reference": None, "salt": b64(salt),
                 "opening": b64(rest.rest), "path": lines[3:]}
        check_entry(entry, Checkpoint(note.encode(), log_key))
        return entry
    checks.equal("tlog-proof", tlog, v["tlog_proof"]["entry"])


def vectors(directory):
    checks = Checks()
    readers = {"base": check_base, "content": check_content, "release": check_release, "statements": check_statements,
               "ledger": check_ledger, "policy": check_policy, "federation": check_federation,
               "proof": check_proof}
    found = {name[:-5] for name in os.listdir(directory) if name.endswith(".json")}
    need(found == set(readers), f"files {sorted(found)}, expected {sorted(readers)}")
    for name, read in readers.items():
        with open(os.path.join(directory, f"{name}.json"), encoding="utf-8") as file:
            read(checks, json.load(file))
    for failure in checks.failed:
        print(failure)
    print(f"{checks.count} checks, {len(checks.failed)} failed")
    need(not checks.failed, "the vectors and this reader disagree")


def main(arguments):
    try:
        if len(arguments) == 2 and arguments[0] == "vectors":
            vectors(arguments[1])
        elif len(arguments) == 3 and arguments[0] == "pull":
            pull(arguments[1], arguments[2].strip())
        else:
            print(__doc__.strip(), file=sys.stderr)
            return 2
    except (Refused, OSError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
