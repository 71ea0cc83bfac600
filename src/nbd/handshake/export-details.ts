// Collects the server's information about one export, until it acknowledges or refuses the option.
//
// Owned by the handshake, one for each NBD_OPT_INFO or NBD_OPT_GO. Checks each piece of information; ignores unknown
// kinds, as proto.md demands.

import { EFBIG } from '../../constants/errno.js';
import {
  NBD_FLAG_BLOCK_STATUS_PAYLOAD,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_SEND_DF,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_WRITE_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_EXPORT,
  NBD_INFO_NAME,
} from '../constants.js';
import { NbdProtocolError } from '../errors.js';
import type { BlockSizes, ExportInfo } from '../export-info.js';
import { WireReader } from '../wire.js';
import { describeBlockSizeChange, usableBlockSizes } from './block-sizes.js';
import { decodeName, decodeString } from './option-messages.js';

const MAX_SIZE = 2n ** 63n - 1n;

/** The negotiated features of the connection. */
export type ConnectionTerms = Pick<
  ExportInfo,
  'structuredReplies' | 'extendedHeaders' | 'metaContexts' | 'handshake'
>;

function expectLength(data: Uint8Array, length: number, name: string): void {
  if (data.length !== length) {
    throw new NbdProtocolError(`${name} has ${data.length} bytes instead of ${length}`);
  }
}

/** The transmission flags without those that need a feature which was not negotiated. */
function usableFlags(flags: number, terms: ConnectionTerms): number {
  let usable = flags;
  if (!terms.structuredReplies && !terms.extendedHeaders) usable &= ~NBD_FLAG_SEND_DF;
  if (!terms.extendedHeaders) usable &= ~NBD_FLAG_BLOCK_STATUS_PAYLOAD;
  if ((usable & NBD_FLAG_SEND_WRITE_ZEROES) === 0) usable &= ~NBD_FLAG_SEND_FAST_ZERO;
  return usable;
}

/** The information about one export. */
export class ExportDetails {
  #size: bigint | undefined;
  #flags = 0;
  #blockSizes: BlockSizes | undefined;
  #canonicalName: string | undefined;
  #description: string | undefined;

  /** Whether size and flags are known, which every export has. */
  get complete(): boolean {
    return this.#size !== undefined;
  }

  /**
   * Sets size and transmission flags.
   * @throws NbdProtocolError if the size is above 2^63-1, or both differ from earlier ones
   */
  takeExport(size: bigint, flags: number): void {
    if (size > MAX_SIZE) {
      throw new NbdProtocolError(`an export of ${size} bytes is larger than any file can be (2^63-1)`, {
        errno: EFBIG,
      });
    }
    if (this.#size !== undefined && (this.#size !== size || this.#flags !== flags)) {
      throw new NbdProtocolError('NBD_INFO_EXPORT came twice with different contents');
    }
    this.#size = size;
    this.#flags = flags;
  }

  /** Reads the data of an NBD_REP_INFO. @throws NbdProtocolError */
  takeInfo(data: Uint8Array): void {
    const reader = new WireReader(data, 'an NBD_REP_INFO reply');
    switch (reader.u16()) {
      case NBD_INFO_EXPORT:
        expectLength(data, 12, 'NBD_INFO_EXPORT');
        this.takeExport(reader.u64(), reader.u16());
        break;
      case NBD_INFO_NAME:
        this.#canonicalName = decodeName(reader.rest(), 'NBD_INFO_NAME');
        break;
      case NBD_INFO_DESCRIPTION:
        this.#description = decodeString(reader.rest(), 'NBD_INFO_DESCRIPTION');
        break;
      case NBD_INFO_BLOCK_SIZE:
        expectLength(data, 14, 'NBD_INFO_BLOCK_SIZE');
        this.#takeBlockSizes({ minimum: reader.u32(), preferred: reader.u32(), maximum: reader.u32() });
        break;
    }
  }

  #takeBlockSizes(sizes: BlockSizes): void {
    const before = this.#blockSizes ?? sizes;
    if (
      before.minimum !== sizes.minimum ||
      before.preferred !== sizes.preferred ||
      before.maximum !== sizes.maximum
    ) {
      throw new NbdProtocolError('NBD_INFO_BLOCK_SIZE came twice with different contents');
    }
    this.#blockSizes = sizes;
  }

  /**
   * The complete export, after the server's acknowledgement.
   * @throws NbdProtocolError without an NBD_INFO_EXPORT
   */
  finish(name: string, terms: ConnectionTerms): ExportInfo {
    if (this.#size === undefined) {
      throw new NbdProtocolError('the server acknowledged an export without NBD_INFO_EXPORT');
    }
    const advertised = this.#blockSizes;
    const blockSizes = advertised && usableBlockSizes(advertised);
    return {
      name,
      size: this.#size,
      flags: usableFlags(this.#flags, terms),
      blockSizes,
      corrections: this.#corrections(
        advertised && describeBlockSizeChange(advertised, blockSizes ?? advertised),
      ),
      description: this.#description,
      canonicalName: this.#canonicalName,
      ...terms,
    };
  }

  #corrections(ofBlockSizes: string | undefined): readonly string[] | undefined {
    const flags = this.#flags;
    const lacksFlags = flags !== 0 && (flags & NBD_FLAG_HAS_FLAGS) === 0;
    const ofFlags = lacksFlags
      ? `the server's transmission flags 0x${flags.toString(16)} lack NBD_FLAG_HAS_FLAGS; using them nevertheless`
      : undefined;
    const texts = [ofFlags, ofBlockSizes].filter((text) => text !== undefined);
    return texts.length === 0 ? undefined : texts;
  }
}
