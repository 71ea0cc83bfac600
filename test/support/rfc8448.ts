// Records of RFC 8448, section 3, that a client and a server sent after their handshake.

import { hex } from './hex.js';

export const SERVER_SECRET = hex`
  a11af9f05531f856ad47116b45a95032 | server_application_traffic_secret_0
  8204b4f44bfb6b3a4b4f1f3fcb631643`;
export const CLIENT_SECRET = hex`
  9e40646ce79a7f9dc05af8889bce6552 | client_application_traffic_secret_0
  875afa0b06df0087f792ebb7c17504a5`;

/** The content of the application data, either way. */
export const DATA = Uint8Array.from({ length: 50 }, (_, i) => i);

export const SERVER_TICKET = hex`
  17 0303 00de                     | header
  3a6b8f90414a97d6959c3487680de513 | NewSessionTicket, content type, tag
  4a2b240e6cffac116e95d41d6af8f6b5
  80dcf3d11d63c758db289a015940252f
  55713e061dc13e078891a38efbcf5753
  ad8ef170ad3c7353d16d9da773b9ca7f
  2b9fa1b6c0d4a3d03f75e09c30ba1e62
  972ac46f75f7b981be63439b2999ce13
  0646151398 91d5e4c5b406f16e3fc181
  a77ca475840025db2f0a77f81b5ab05b
  94c01346755f69232c86519d86cbeeac
  87aac347d143f9605d64f650db4d023e
  70e952ca49fe5137121c74bc2697687e
  248746d6df353005f3bce18696129c81
  53556b3b6c6779b37bf15985684f`;
export const SERVER_DATA = hex`
  17 0303 0043                     | header
  2e937e11ef4ac740e538ad36005fc4a4 | 50 bytes, content type, tag
  6932fc3225d05f82aa1b36e30efaf97d
  90e6dffc602dcb501a59a8fcc49c4bf2
  e5f0a21c0047c2abf332540dd032e167
  c2955d`;
export const SERVER_CLOSE = hex`
  17 0303 0013                     | header
  b58fd67166ebf599d24720cfbe7efa7a | alert close_notify, content type, tag
  8864a9`;
export const CLIENT_DATA = hex`
  17 0303 0043                     | header
  a23f7054b62c94d0affafe8228ba55cb | 50 bytes, content type, tag
  efacea42f914aa66bcab3f2b9819a8a5
  b46b395bd54a9a20441e2b62974e1f5a
  6292a2977014bd1e3deae63aeebb2169
  4915e4`;
export const CLIENT_CLOSE = hex`
  17 0303 0013                     | header
  c9872760655666b74d7ff1153efd6db6 | alert close_notify, content type, tag
  d0b0e3`;
