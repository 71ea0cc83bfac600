// What one handshake wants, what has been agreed on so far, and what has been learnt.
//
// Owned by a handshake, changed by it and by the steps of haggling only. Plain state, no behaviour.

import type { ExportInfo, ListedExport, MetaContext } from '../export-info.js';
import { type ConnectionTerms, ExportDetails } from './export-details.js';
import { checkExportName, checkMetaContextQueries } from './option-messages.js';

/** What a handshake is for: to use an export, to list the exports, or to describe one or its contexts. */
export type HandshakeGoal =
  | { readonly kind: 'go'; readonly exportName: string }
  | {
      readonly kind: 'list';
      /** Asked before each export of the list: whether to go on asking what there is to know of them. */
      readonly describe?: (index: number, count: number) => boolean;
    }
  | { readonly kind: 'info'; readonly exportName: string }
  /** The metadata contexts that the queries find; without queries, all. */
  | { readonly kind: 'contexts'; readonly exportName: string; readonly queries: readonly string[] };

/** What a handshake is to reach, and by which means. */
export interface HandshakeOptions {
  readonly goal: HandshakeGoal;
  /** `require`: nothing but the wish for TLS is sent in the clear. `disable`: TLS is never begun. */
  readonly tls: 'disable' | 'require';
  /** Ask for structured replies; default true. */
  readonly structuredReplies?: boolean;
  /** Ask for 64-bit headers; default true. */
  readonly extendedHeaders?: boolean;
  /** Metadata contexts to ask for, at most 1024; default `base:allocation`. */
  readonly metaContexts?: readonly string[];
}

/** What has been agreed on, and what has been learnt. */
export interface Negotiation {
  readonly goal: HandshakeGoal;
  readonly tls: 'disable' | 'require';
  /** Metadata contexts to ask for. */
  readonly queries: readonly string[];
  style: ExportInfo['handshake'];
  /** Bytes of a reply to NBD_OPT_EXPORT_NAME. */
  exportNameReplyLength: number;
  encrypted: boolean;
  /** Undefined until the server has answered. */
  structuredReplies: boolean | undefined;
  extendedHeaders: boolean | undefined;
  metaContexts: MetaContext[] | undefined;
  /** The server's list, while and after it comes. */
  exports: ListedExport[];
  listed: boolean;
  /** How many of the list have been asked about. */
  described: number;
  details: ExportDetails;
  /** The export that was asked for, once the server has acknowledged it. */
  export: ExportInfo | undefined;
  /** Names of the contexts that the server lists, while they come, and whether all have. */
  listedContexts: string[];
  contextsListed: boolean;
  /** NBD_OPT_INFO or NBD_OPT_GO is unknown to the server. */
  unsupported: boolean;
}

/**
 * The state before a server's first byte.
 * @throws NbdError with EINVAL when the export name or a metadata context cannot be sent
 */
export function startNegotiation(options: HandshakeOptions): Negotiation {
  const { goal, tls } = options;
  const queries = options.metaContexts ?? ['base:allocation'];
  if (goal.kind !== 'list') checkExportName(goal.exportName);
  checkMetaContextQueries(goal.kind === 'contexts' ? goal.queries : queries);
  return {
    goal,
    tls,
    queries,
    style: 'newstyle',
    exportNameReplyLength: 0,
    encrypted: false,
    structuredReplies: options.structuredReplies === false ? false : undefined,
    extendedHeaders: options.extendedHeaders === false ? false : undefined,
    metaContexts: undefined,
    exports: [],
    listed: false,
    described: 0,
    details: new ExportDetails(),
    export: undefined,
    listedContexts: [],
    contextsListed: false,
    unsupported: false,
  };
}

/** The part of an ExportInfo that is the connection's. */
export function connectionTerms(n: Negotiation): ConnectionTerms {
  const extendedHeaders = n.extendedHeaders === true;
  return {
    structuredReplies: extendedHeaders || n.structuredReplies === true,
    extendedHeaders,
    metaContexts: n.metaContexts ?? [],
    handshake: n.style,
  };
}
