"""The few messages of Flight SQL that tests send without a driver."""

from pyarrow import flight

PREFIX = "type.googleapis.com/arrow.flight.protocol.sql."


def field(number, payload):
    """A length-delimited protobuf field."""
    return bytes([number << 3 | 2]) + varint(len(payload)) + payload


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def statement(sql):
    """The descriptor of a CommandStatementQuery."""
    command = field(1, (PREFIX + "CommandStatementQuery").encode()) + field(2, field(1, sql.encode()))
    return flight.FlightDescriptor.for_command(command)


def client(cluster):
    return flight.connect(f"grpc+tcp://{cluster.scheduler.address}")
