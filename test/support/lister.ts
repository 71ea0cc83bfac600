// A server whose list and whose exports the test controls: for --all.

import {
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_REP_ACK,
  NBD_REP_ERR_UNSUP,
  NBD_REP_SERVER,
} from './nbd-numbers.js';
import { answerOptions, exportInfo, type RawServer, refusal, startRawServer } from './raw-server.js';
import type { Scope } from './run/scope.js';
import { optionReply, u32 } from './scripted-wire.js';

/** Bytes of each export. */
const SIZE = 1024n * 1024n;

/** As it is sent. */
export type ExportName = string | Buffer;

function listEntry(name: ExportName): Buffer {
  const bytes = Buffer.from(name as string);
  return optionReply(NBD_OPT_LIST, NBD_REP_SERVER, Buffer.concat([u32(bytes.length), bytes]));
}

/**
 * Starts a server with exports of a mebibyte.
 * @param list returns their names, or undefined to never answer
 * @param open calls `answer` when NBD_OPT_GO shall be answered
 */
export function startLister(
  scope: Scope,
  list: () => Iterable<ExportName> | undefined,
  open: (answer: () => void) => void = (answer) => answer(),
): Promise<RawServer> {
  return startRawServer(scope, (socket) => {
    answerOptions(socket, (option) => {
      if (option === NBD_OPT_INFO || option === NBD_OPT_GO) {
        const answer = Buffer.concat([exportInfo(option, SIZE), optionReply(option, NBD_REP_ACK)]);
        const tell = (): void => void socket.write(answer);
        if (option === NBD_OPT_GO) open(tell);
        else tell();
      } else if (option === NBD_OPT_LIST) {
        const names = list();
        if (names === undefined) return;
        socket.write(Buffer.concat([...[...names].map(listEntry), optionReply(option, NBD_REP_ACK)]));
      } else socket.write(refusal(option, NBD_REP_ERR_UNSUP, ''));
    });
  });
}
