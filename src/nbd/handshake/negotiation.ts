// The state of one handshake: its goal, the negotiated features and the server's information.
//
// Owned by a handshake; only it and its option steps change it.

import type { ExportInfo, ListedExport, MetaContext } from '../export-info.js';
import { type ConnectionTerms, ExportDetails } from './export-details.js';
import { checkExportName, checkMetaContextQueries } from './option-messages.js';

/** The goal of a handshake: to use an export, to list the exports, or to describe an export or its contexts. */
export type HandshakeGoal =
  | { readonly kind: 'go'; readonly exportName: string }
  | {
      readonly kind: 'list';
      /** Called before each export of the list: whether to send NBD_OPT_INFO for it. */
      readonly describe?: (index: number, count: number) => boolean;
    }
  | { readonly kind: 'info'; readonly exportName: string }
  /** Lists the metadata contexts that the queries find; all of them without queries. */
  | { readonly kind: 'contexts'; readonly exportName: string; readonly queries: readonly string[] };

/** Goal and options of a handshake. */
export interface HandshakeOptions {
  readonly goal: HandshakeGoal;
  /** `require`: only the request for TLS is sent in plain text. `disable`: TLS is not used. */
  readonly tls: 'disable' | 'require';
  /** Request structured replies; default true. */
  readonly structuredReplies?: boolean;
  /** Request extended headers (64 bits); default true. */
  readonly extendedHeaders?: boolean;
  /** Metadata contexts to request, at most 1024; default `base:allocation`. */
  readonly metaContexts?: readonly string[];
}

/** The state of a handshake. */
export interface Negotiation {
  readonly goal: HandshakeGoal;
  readonly tls: 'disable' | 'require';
  /** Metadata contexts to request. */
  readonly queries: readonly string[];
  style: ExportInfo['handshake'];
  /** Length in bytes of a reply to NBD_OPT_EXPORT_NAME. */
  exportNameReplyLength: number;
  encrypted: boolean;
  /** Undefined until the server has replied. */
  structuredReplies: boolean | undefined;
  extendedHeaders: boolean | undefined;
  metaContexts: MetaContext[] | undefined;
  /** The server's list of exports, as far as it has come. */
  exports: ListedExport[];
  listed: boolean;
  /** Number of listed exports whose NBD_OPT_INFO is done. */
  described: number;
  details: ExportDetails;
  /** The requested export, once the server has acknowledged it. */
  export: ExportInfo | undefined;
  /** Names of the listed contexts, and whether the list is complete. */
  listedContexts: string[];
  contextsListed: boolean;
  /** Whether the server does not know NBD_OPT_INFO or NBD_OPT_GO. */
  unsupported: boolean;
}

/**
 * The state before the server's first byte.
 * @throws NbdError with EINVAL if the export name or a metadata context cannot be sent
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

/** The negotiated features in an ExportInfo. */
export function connectionTerms(n: Negotiation): ConnectionTerms {
  const extendedHeaders = n.extendedHeaders === true;
  return {
    structuredReplies: extendedHeaders || n.structuredReplies === true,
    extendedHeaders,
    metaContexts: n.metaContexts ?? [],
    handshake: n.style,
  };
}
