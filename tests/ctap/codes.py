"""Error codes (8.2), and the exception that carries one to the platform."""

from enum import IntEnum


class Code(IntEnum):
    """Those that this key gives."""

    INVALID_COMMAND = 0x01
    INVALID_PARAMETER = 0x02
    INVALID_LENGTH = 0x03
    INVALID_SEQ = 0x04
    CHANNEL_BUSY = 0x06
    INVALID_CHANNEL = 0x0B
    INVALID_CBOR = 0x12
    MISSING_PARAMETER = 0x14
    UNSUPPORTED_ALGORITHM = 0x26
    OPERATION_DENIED = 0x27
    UNSUPPORTED_OPTION = 0x2B
    INVALID_OPTION = 0x2C
    KEEPALIVE_CANCEL = 0x2D
    NO_CREDENTIALS = 0x2E
    USER_ACTION_TIMEOUT = 0x2F
    PIN_INVALID = 0x31
    PIN_BLOCKED = 0x32
    PIN_AUTH_INVALID = 0x33
    PIN_AUTH_BLOCKED = 0x34
    PIN_NOT_SET = 0x35
    PUAT_REQUIRED = 0x36
    PIN_POLICY_VIOLATION = 0x37
    INVALID_SUBCOMMAND = 0x3E
    UNAUTHORIZED_PERMISSION = 0x40


class Refused(Exception):
    """The key answers with this code."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code
