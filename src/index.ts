// The public interface of the library: re-exports only. See docs/reference/library.md.

/// <reference types="node" preserve="true" />

export type { BlockStatus, Extent } from './client/block-status.js';
export { connectMany, NbdClient, type NbdClientEvents } from './client/client.js';
export { listExports, listMetaContexts } from './client/lists.js';
export type {
  Abortable,
  BlockStatusOptions,
  ChangeOptions,
  ClientOptions,
  ConnectOptions,
  ListContextsOptions,
  ListOptions,
  OverOptions,
  RangeOptions,
  ReadStreamOptions,
  StreamOptions,
  WriteStreamOptions,
  ZeroOptions,
} from './client/options.js';
export type { ByteCount } from './client/ranges.js';
export type { EndpointOptions, ServerAddress } from './client/target.js';
export { ImageError } from './image/errors.js';
export type { ChunkSettings, KeepRequest } from './image/keep-request.js';
export { type ImageOptions, openImage } from './image/open.js';
export { NBD_STATE_HOLE, NBD_STATE_ZERO } from './nbd/constants.js';
export {
  NbdArgumentError,
  NbdClosedError,
  NbdError,
  NbdProtocolError,
  NbdServerError,
} from './nbd/errors.js';
export type { BlockSizes, ExportInfo, ListedExport, MetaContext } from './nbd/export-info.js';
export { type NbdUri, parseNbdUri } from './nbd/uri/uri.js';
export { TransportError } from './transport/errors.js';
export { NbdServer, type OpenOptions, openServer } from './transport/server.js';
export { type Endpoint, endpointFromUri, type Target, type TlsSettings } from './transport/target.js';
