"""AWS's answers as the bytes of its protocols: a mock of the wire, on which botocore signs, retries and parses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from io import BytesIO
from typing import Any, Final
from xml.sax.saxutils import escape

from botocore.awsrequest import AWSResponse
from botocore.model import DenormalizedStructureBuilder, ListShape, OperationModel, Shape, StructureShape
from botocore.serialize import JSONSerializer, RpcV2CBORSerializer

_TEXT: Final = {"type": "string"}
_ERROR: Final = DenormalizedStructureBuilder().with_members({"__type": _TEXT, "message": _TEXT}).build_model()


class _Raw(BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()


def answer(url: str, model: OperationModel, status: int, parsed: Mapping[str, Any], date: str) -> AWSResponse:
    """The HTTP response that botocore parses to ``parsed``, which has an "Error" if ``status`` is one's."""
    headers = {"Date": date, "x-amzn-RequestId": "0"}
    value, shape = parsed, model.output_shape
    if status >= 300:
        value = {"__type": parsed["Error"]["Code"], "message": parsed["Error"]["Message"]}
        shape = _ERROR
        headers["x-amzn-query-error"] = f"{value['__type']};Sender"
    match model.service_model.resolved_protocol:
        case "json":
            content: dict[str, Any] = {}
            if shape is not None:
                JSONSerializer()._serialize(content, value, shape)
            body = json.dumps(content).encode()
        case "smithy-rpc-v2-cbor":
            packed = bytearray()
            RpcV2CBORSerializer()._serialize_data_item(packed, value, shape)
            body = bytes(packed)
        case "query":
            body = _query(model, status, value).encode()
        case other:
            raise NotImplementedError(other)
    return AWSResponse(url, status, headers, _Raw(body))


def _query(model: OperationModel, status: int, value: Mapping[str, Any]) -> str:
    if status >= 300:
        code, message = escape(value["__type"]), escape(value["message"])
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        return f"<ErrorResponse>{error}<RequestId>0</RequestId></ErrorResponse>"
    shape = model.output_shape
    result = "" if shape is None else _xml(shape.serialization["resultWrapper"], value, shape)
    metadata = "<ResponseMetadata><RequestId>0</RequestId></ResponseMetadata>"
    return f"<{model.name}Response>{result}{metadata}</{model.name}Response>"


def _xml(name: str, value: Any, shape: Shape) -> str:
    if isinstance(shape, StructureShape):
        present = [(key, part) for key, part in shape.members.items() if key in value]
        text = "".join(_xml(part.serialization.get("name", key), value[key], part) for key, part in present)
    elif isinstance(shape, ListShape):
        each_name = shape.member.serialization.get("name", "member")
        text = "".join(_xml(each_name, each, shape.member) for each in value)
    elif isinstance(value, datetime):
        text = value.isoformat()
    else:
        text = escape(str(value).lower() if isinstance(value, bool) else str(value))
    return f"<{name}>{text}</{name}>"
