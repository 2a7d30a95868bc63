"""Says what dkimpy and OpenDKIM think of every signature of a message. Runs in the container of the peer dkim.

Standard input: JSON {"records": {name: text}, "messages": {name: base64}}. Standard output: for each message a list of
[d, s, a, dkimpy's verdict, OpenDKIM's words] for its signatures, from the first one downwards.
"""

from __future__ import annotations

import base64
import json
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any

import dkim  # Debian's, which only the peer has


def main() -> None:
    order = json.load(sys.stdin)
    answer = {name: ask_dkimpy(base64.b64decode(data), order["records"]) for name, data in order["messages"].items()}
    # OpenDKIM says which one signature convinced it: each is asked about alone.
    alone = [
        (verdict, keep_signature(base64.b64decode(order["messages"][name]), index))
        for name, verdicts in answer.items()
        for index, verdict in enumerate(verdicts)
    ]
    for (verdict, _), words in zip(alone, ask_opendkim([data for _, data in alone], order["records"]), strict=True):
        verdict.append(words)
    json.dump(answer, sys.stdout)


def ask_dkimpy(data: bytes, records: dict[str, str]) -> list[list[Any]]:
    def find(name: bytes, timeout: int = 5) -> bytes | None:
        del timeout
        text = records.get(name.decode().rstrip("."))
        return text.encode() if text else None

    verdicts = []
    for index, value in enumerate(value for name, value in list_fields(data) if name == b"dkim-signature"):
        tags = dkim.util.parse_tag_value(value)
        verdict: bool | str
        try:
            verdict = bool(dkim.DKIM(data, minkey=1024).verify(index, dnsfunc=find))
        except dkim.DKIMException as error:
            verdict = f"{type(error).__name__}: {error}"
        verdicts.append([tags[b"d"].decode(), tags[b"s"].decode(), tags[b"a"].decode(), verdict])
    return verdicts


def list_fields(data: bytes) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in dkim.rfc822_parse(data)[0]]


def keep_signature(data: bytes, index: int) -> bytes:
    """The message with one of its signatures, which does not cover the others."""
    head, separator, body = data.partition(b"\r\n\r\n")
    fields = re.findall(rb"[^\r\n]+(?:\r\n[ \t][^\r\n]*)*", head)
    signatures = [field for field in fields if field.lower().startswith(b"dkim-signature:")]
    others = signatures[:index] + signatures[index + 1 :]
    return b"\r\n".join(field for field in fields if field not in others) + separator + body


def ask_opendkim(messages: list[bytes], records: dict[str, str]) -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        (work / "keys").write_text("".join(f"{name} {text}\n" for name, text in records.items()))
        (work / "conf").write_text(f"Mode v\nTestPublicKeys {work}/keys\nSyslog no\n")
        paths = [work / f"{number:04}.eml" for number in range(len(messages))]
        for path, data in zip(paths, messages, strict=True):
            path.write_bytes(data)
        command = ["opendkim", "-x", str(work / "conf"), "-t", ",".join(map(str, paths))]
        done = subprocess.run(command, capture_output=True, check=False)
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        words = {path: " ".join(re.findall(rf"{re.escape(str(path))}: (.*)", said)) for path in paths}
        return [words[path] for path in paths]


if __name__ == "__main__":
    main()
