// The specification's names of the protocol's numbers, for traces and messages. Pure.
//
// A number without a name is printed in hexadecimal.

import * as c from './constants.js';

type Names = ReadonlyMap<number, string>;

function names(table: Readonly<Record<string, number>>): Names {
  return new Map(Object.entries(table).map(([name, value]) => [value, name]));
}

const OPTIONS = names({
  NBD_OPT_EXPORT_NAME: c.NBD_OPT_EXPORT_NAME,
  NBD_OPT_ABORT: c.NBD_OPT_ABORT,
  NBD_OPT_LIST: c.NBD_OPT_LIST,
  NBD_OPT_PEEK_EXPORT: c.NBD_OPT_PEEK_EXPORT,
  NBD_OPT_STARTTLS: c.NBD_OPT_STARTTLS,
  NBD_OPT_INFO: c.NBD_OPT_INFO,
  NBD_OPT_GO: c.NBD_OPT_GO,
  NBD_OPT_STRUCTURED_REPLY: c.NBD_OPT_STRUCTURED_REPLY,
  NBD_OPT_LIST_META_CONTEXT: c.NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT: c.NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_EXTENDED_HEADERS: c.NBD_OPT_EXTENDED_HEADERS,
});

const OPTION_REPLIES = names({
  NBD_REP_ACK: c.NBD_REP_ACK,
  NBD_REP_SERVER: c.NBD_REP_SERVER,
  NBD_REP_INFO: c.NBD_REP_INFO,
  NBD_REP_META_CONTEXT: c.NBD_REP_META_CONTEXT,
  NBD_REP_ERR_UNSUP: c.NBD_REP_ERR_UNSUP,
  NBD_REP_ERR_POLICY: c.NBD_REP_ERR_POLICY,
  NBD_REP_ERR_INVALID: c.NBD_REP_ERR_INVALID,
  NBD_REP_ERR_PLATFORM: c.NBD_REP_ERR_PLATFORM,
  NBD_REP_ERR_TLS_REQD: c.NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNKNOWN: c.NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_SHUTDOWN: c.NBD_REP_ERR_SHUTDOWN,
  NBD_REP_ERR_BLOCK_SIZE_REQD: c.NBD_REP_ERR_BLOCK_SIZE_REQD,
  NBD_REP_ERR_TOO_BIG: c.NBD_REP_ERR_TOO_BIG,
  NBD_REP_ERR_EXT_HEADER_REQD: c.NBD_REP_ERR_EXT_HEADER_REQD,
});

const TRANSMISSION_FLAGS = names({
  NBD_FLAG_HAS_FLAGS: c.NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY: c.NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_FLUSH: c.NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA: c.NBD_FLAG_SEND_FUA,
  NBD_FLAG_ROTATIONAL: c.NBD_FLAG_ROTATIONAL,
  NBD_FLAG_SEND_TRIM: c.NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES: c.NBD_FLAG_SEND_WRITE_ZEROES,
  NBD_FLAG_SEND_DF: c.NBD_FLAG_SEND_DF,
  NBD_FLAG_CAN_MULTI_CONN: c.NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_SEND_RESIZE: c.NBD_FLAG_SEND_RESIZE,
  NBD_FLAG_SEND_CACHE: c.NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_FAST_ZERO: c.NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_BLOCK_STATUS_PAYLOAD: c.NBD_FLAG_BLOCK_STATUS_PAYLOAD,
});

const COMMANDS = names({
  NBD_CMD_READ: c.NBD_CMD_READ,
  NBD_CMD_WRITE: c.NBD_CMD_WRITE,
  NBD_CMD_DISC: c.NBD_CMD_DISC,
  NBD_CMD_FLUSH: c.NBD_CMD_FLUSH,
  NBD_CMD_TRIM: c.NBD_CMD_TRIM,
  NBD_CMD_CACHE: c.NBD_CMD_CACHE,
  NBD_CMD_WRITE_ZEROES: c.NBD_CMD_WRITE_ZEROES,
  NBD_CMD_BLOCK_STATUS: c.NBD_CMD_BLOCK_STATUS,
  NBD_CMD_RESIZE: c.NBD_CMD_RESIZE,
});

const COMMAND_FLAGS = names({
  NBD_CMD_FLAG_FUA: c.NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE: c.NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_DF: c.NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_REQ_ONE: c.NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLAG_FAST_ZERO: c.NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_PAYLOAD_LEN: c.NBD_CMD_FLAG_PAYLOAD_LEN,
});

const ERRORS = names({
  NBD_EPERM: c.NBD_EPERM,
  NBD_EIO: c.NBD_EIO,
  NBD_ENOMEM: c.NBD_ENOMEM,
  NBD_EINVAL: c.NBD_EINVAL,
  NBD_ENOSPC: c.NBD_ENOSPC,
  NBD_EOVERFLOW: c.NBD_EOVERFLOW,
  NBD_ENOTSUP: c.NBD_ENOTSUP,
  NBD_ESHUTDOWN: c.NBD_ESHUTDOWN,
});

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function flagNames(table: Names, flags: number): string[] {
  const found: string[] = [];
  for (let bit = 0; bit < 16; bit++) {
    const flag = 1 << bit;
    if ((flags & flag) !== 0) found.push(table.get(flag) ?? hex(flag));
  }
  return found;
}

/** `NBD_OPT_*` of an option, or its number in hexadecimal. */
export function optionName(option: number): string {
  return OPTIONS.get(option) ?? hex(option);
}

/** `NBD_REP_*` of a reply to an option, or its number in hexadecimal. */
export function optionReplyName(replyType: number): string {
  return OPTION_REPLIES.get(replyType) ?? hex(replyType);
}

/** `NBD_CMD_*` of a command, or its number in hexadecimal. */
export function commandName(command: number): string {
  return COMMANDS.get(command) ?? hex(command);
}

/** `NBD_E*` of an error of the transmission phase, or its number in hexadecimal. */
export function errorName(error: number): string {
  return ERRORS.get(error) ?? hex(error);
}

/** The names of the transmission flags (`NBD_FLAG_*`) in `flags`, lowest bit first. */
export function transmissionFlagNames(flags: number): string[] {
  return flagNames(TRANSMISSION_FLAGS, flags);
}

/** The names of the command flags (`NBD_CMD_FLAG_*`) in `flags`, lowest bit first. */
export function commandFlagNames(flags: number): string[] {
  return flagNames(COMMAND_FLAGS, flags);
}
