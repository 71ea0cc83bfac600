// How a client gets its connections: from an open server, or from that of an image, which may start again.

import type { NegotiatedConnection } from '../transport/connection.js';
import type { NbdServer } from '../transport/server.js';

/** How to make one connection. */
export interface Attempt {
  readonly signal?: AbortSignal | undefined;
  /** Whether to find the processes that serve the connection. */
  readonly watch: boolean;
  /**
   * Called before a new server replaces the one of all lost connections. Its result is called when the old one, and all
   * processes that it had started, have ended.
   */
  readonly replaces?: () => () => void;
}

/** See the file's head. */
export interface Connector {
  /** Whether the server serves one connection only. */
  readonly singleConnection: boolean;
  /** Whether a lost connection can be replaced. */
  readonly canReconnect: boolean;
  /** Whether the client refuses changes although the server accepts them. */
  readonly readOnly?: boolean;
  /** Whether the server has ended for good. */
  isOver(): boolean;
  /** @throws TransportError, NbdServerError, NbdProtocolError */
  connect(attempt: Attempt): Promise<NegotiatedConnection>;
}

/** The connector of an open server. */
export function connectorOf(server: NbdServer): Connector {
  return {
    singleConnection: server.singleConnection,
    canReconnect: server.reconnectable || server.isPersistent,
    isOver: () => server.hasEnded,
    connect: ({ signal, watch }) => server.connect({ signal, watch }),
  };
}
