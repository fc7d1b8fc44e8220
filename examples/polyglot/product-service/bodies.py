"""Bodies of wasi:http 0.3: a stream of bytes, and a future with the trailers or an error."""

import wit_world
from componentize_py_types import Ok
from wit_world.imports.wasi_http_types import Response


async def write(writer, body):
    """Writes the whole body, as fast as it is read."""
    with writer:
        await writer.write_all(body)


async def read(response):
    """Reads the whole body of a response."""
    accepted = wit_world.result_unit_wasi_http_types_error_code_future(lambda: Ok(None))[1]
    reader = Response.consume_body(response, accepted)[0]
    body = bytearray()
    with reader:
        while not reader.writer_dropped:
            body += await reader.read(16 * 1024)
    return bytes(body)


def no_trailers():
    """A future for the end of a body without trailers."""
    return wit_world.result_option_wasi_http_types_fields_wasi_http_types_error_code_future(lambda: Ok(None))[1]
