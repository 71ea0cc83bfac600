// The client's options in the negotiation: one table, in order of preference.
//
// The handshake sends the first option of the table that is still wanted, waits for its final reply and starts again. A
// step changes only the Negotiation. TLS comes first, so that nothing negotiated in plain text survives it.

import { EOPNOTSUPP } from '../../constants/errno.js';
import {
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_NAME,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNSUP,
  NBD_REP_INFO,
  NBD_REP_META_CONTEXT,
  NBD_REP_SERVER,
} from '../constants.js';
import { NbdProtocolError, NbdServerError } from '../errors.js';
import { printable } from '../text.js';
import { ExportDetails } from './export-details.js';
import { connectionTerms, type Negotiation } from './negotiation.js';
import {
  decodeMetaContext,
  decodeServerReply,
  encodeExportRequest,
  encodeMetaContextRequest,
  MAX_META_CONTEXTS,
} from './option-messages.js';
import { checkFatalRefusal, type Refusal, refusalError } from './refusal.js';

/** One option, and the handling of its replies. */
export interface Step {
  readonly option: number;
  /** The type of its non-final replies, and the most of them. */
  readonly replyType?: number;
  readonly maxReplies?: number;
  wanted(n: Negotiation): boolean;
  /** Clears the result of an earlier attempt. Returns the option's data. */
  begin(n: Negotiation): Uint8Array;
  take(n: Negotiation, data: Uint8Array): void;
  acknowledged(n: Negotiation): void;
  /** Returns if the handshake can continue without the option; throws if not. */
  refused(n: Negotiation, refusal: Refusal): void;
}

/** Most exports of a list. */
const MAX_LISTED_EXPORTS = 10_000;

/** Most metadata contexts of a list: an image may have thousands of bitmaps. */
const MAX_LISTED_CONTEXTS = 10_000;

/** Default limit of NBD_OPT_INFO for listed exports, one round trip each. */
const MAX_DESCRIBED_EXPORTS = 256;

/** Most pieces of information about one export; the specification has four kinds. */
const MAX_INFO_REPLIES = 64;

const INFORMATION_REQUESTS = [NBD_INFO_NAME, NBD_INFO_DESCRIPTION, NBD_INFO_BLOCK_SIZE];

const NO_DATA = new Uint8Array(0);

/** The export of the next NBD_OPT_INFO, NBD_OPT_GO or NBD_OPT_SET_META_CONTEXT. */
function currentName(n: Negotiation): string {
  return n.goal.kind === 'list' ? n.exports[n.described].name : n.goal.exportName;
}

function shownName(n: Negotiation): string {
  return printable(currentName(n), 256);
}

function useExport(n: Negotiation): string {
  return `cannot open export "${shownName(n)}"`;
}

/** Makes a step for an optional feature, whose option has neither data nor non-final replies. */
function offer(
  option: number,
  wanted: (n: Negotiation) => boolean,
  set: (n: Negotiation, on: boolean) => void,
): Step {
  return {
    option,
    wanted,
    begin: () => NO_DATA,
    take: () => undefined,
    acknowledged: (n) => set(n, true),
    refused: (n, refusal) => {
      if (refusal.replyType === NBD_REP_ERR_TLS_REQD)
        throw refusalError('cannot talk to the server', refusal);
      set(n, false);
    },
  };
}

const startTls: Step = {
  option: NBD_OPT_STARTTLS,
  wanted: (n) => n.tls === 'require' && !n.encrypted,
  begin: () => NO_DATA,
  take: () => undefined,
  acknowledged: () => undefined,
  refused: (_, refusal) => {
    throw refusalError('cannot use TLS, and plain text is not allowed', refusal);
  },
};

const extendedHeaders = offer(
  NBD_OPT_EXTENDED_HEADERS,
  (n) => n.extendedHeaders === undefined,
  (n, on) => {
    n.extendedHeaders = on;
  },
);

const structuredReplies = offer(
  NBD_OPT_STRUCTURED_REPLY,
  (n) => n.structuredReplies === undefined && n.extendedHeaders !== true,
  (n, on) => {
    n.structuredReplies = on;
  },
);

const list: Step = {
  option: NBD_OPT_LIST,
  replyType: NBD_REP_SERVER,
  maxReplies: MAX_LISTED_EXPORTS,
  wanted: (n) => n.goal.kind === 'list' && !n.listed,
  begin: () => NO_DATA,
  take: (n, data) => {
    n.exports.push(decodeServerReply(data));
  },
  acknowledged: (n) => {
    n.listed = true;
  },
  refused: (_, refusal) => {
    throw refusalError('cannot list exports', refusal);
  },
};

const setMetaContext: Step = {
  option: NBD_OPT_SET_META_CONTEXT,
  replyType: NBD_REP_META_CONTEXT,
  maxReplies: MAX_META_CONTEXTS,
  wanted: (n) =>
    (n.goal.kind === 'go' || n.goal.kind === 'info') &&
    n.metaContexts === undefined &&
    n.queries.length > 0 &&
    connectionTerms(n).structuredReplies,
  begin: (n) => {
    n.metaContexts = [];
    return encodeMetaContextRequest(currentName(n), n.queries);
  },
  take: (n, data) => {
    const context = decodeMetaContext(data);
    const known = n.metaContexts ?? [];
    if (known.some((other) => other.id === context.id)) {
      throw new NbdProtocolError(`two metadata contexts have the id ${context.id}`);
    }
    n.metaContexts = [...known, context];
  },
  acknowledged: () => undefined,
  refused: (n, refusal) => {
    if (refusal.replyType === NBD_REP_ERR_TLS_REQD) throw refusalError(useExport(n), refusal);
    n.metaContexts = [];
  },
};

const listMetaContext: Step = {
  option: NBD_OPT_LIST_META_CONTEXT,
  replyType: NBD_REP_META_CONTEXT,
  maxReplies: MAX_LISTED_CONTEXTS,
  wanted: (n) => n.goal.kind === 'contexts' && !n.contextsListed,
  begin: (n) => {
    if (!connectionTerms(n).structuredReplies) {
      const message = 'cannot list metadata contexts: the server has none, since it lacks structured replies';
      throw new NbdServerError(message, { errno: EOPNOTSUPP });
    }
    return encodeMetaContextRequest(currentName(n), n.goal.kind === 'contexts' ? n.goal.queries : []);
  },
  take: (n, data) => {
    // The id is meaningless here, and the specification says to ignore it.
    n.listedContexts.push(decodeMetaContext(data).name);
  },
  acknowledged: (n) => {
    n.contextsListed = true;
  },
  refused: (n, refusal) => {
    throw refusalError(`cannot list metadata contexts of export "${shownName(n)}"`, refusal);
  },
};

function requestExport(n: Negotiation): Uint8Array {
  n.details = new ExportDetails();
  return encodeExportRequest(currentName(n), INFORMATION_REQUESTS);
}

function takeInfo(n: Negotiation, data: Uint8Array): void {
  n.details.takeInfo(data);
}

function exportRefused(n: Negotiation, refusal: Refusal): void {
  if (refusal.replyType !== NBD_REP_ERR_UNSUP) throw refusalError(useExport(n), refusal);
  if (n.extendedHeaders === true) {
    throw new NbdProtocolError('a server with extended headers does not support NBD_OPT_GO');
  }
  n.unsupported = true;
}

function exportAcknowledged(n: Negotiation): void {
  n.export = n.details.finish(currentName(n), connectionTerms(n));
}

const go: Step = {
  option: NBD_OPT_GO,
  replyType: NBD_REP_INFO,
  maxReplies: MAX_INFO_REPLIES,
  wanted: (n) => n.goal.kind === 'go' && n.export === undefined && !n.unsupported,
  begin: requestExport,
  take: takeInfo,
  acknowledged: exportAcknowledged,
  refused: exportRefused,
};

const info: Step = {
  ...go,
  option: NBD_OPT_INFO,
  wanted: (n) => n.goal.kind === 'info' && n.export === undefined && !n.unsupported,
};

const listedInfo: Step = {
  ...info,
  wanted: (n) =>
    n.goal.kind === 'list' &&
    n.listed &&
    !n.unsupported &&
    n.described < n.exports.length &&
    (n.goal.describe?.(n.described, n.exports.length) ?? n.described < MAX_DESCRIBED_EXPORTS),
  acknowledged: (n) => {
    const entry = n.exports[n.described];
    const details = n.details.finish(entry.name, connectionTerms(n));
    n.exports[n.described] = {
      ...entry,
      description: entry.description ?? details.description,
      info: details,
    };
    n.described++;
  },
  refused: (n, refusal) => {
    n.unsupported = refusal.replyType === NBD_REP_ERR_UNSUP;
    n.described++;
  },
};

const STEPS: readonly Step[] = [
  startTls,
  extendedHeaders,
  structuredReplies,
  list,
  listMetaContext,
  setMetaContext,
  info,
  listedInfo,
  go,
];

/** The next option to send; undefined at the end of the negotiation. */
export function nextStep(n: Negotiation): Step | undefined {
  return STEPS.find((step) => step.wanted(n));
}

/** Passes a final error reply to its step, after the rules for all options. */
export function refuseStep(step: Step, n: Negotiation, refusal: Refusal): void {
  checkFatalRefusal('cannot go on with the handshake', refusal, n.encrypted);
  step.refused(n, refusal);
}
