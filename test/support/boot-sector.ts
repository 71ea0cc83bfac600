// A disk that boots: its boot sector prints the text in one sector on the serial port and ends qemu.
//
// Used by the boot test. The code is 16-bit and written out byte by byte. Reading a second sector by int 13h
// proves that the disk is readable after the BIOS is done.

/** The sector whose text is printed, up to a zero byte. */
export const TEXT_SECTOR = 2048;

/** Exit status of qemu after the sector writes 0x10 to isa-debug-exit at port 0xf4: (0x10 << 1) | 1. */
export const BOOTED_STATUS = 33;

const CODE = [
  [0x31, 0xc0], //                   xor ax, ax
  [0x8e, 0xd8], //                   mov ds, ax
  [0xbe, 0x40, 0x7c], //             mov si, 0x7c40      the disk address packet below
  [0xb4, 0x42], //                   mov ah, 0x42        extended read; dl is the BIOS's boot drive
  [0xcd, 0x13], //                   int 0x13
  [0x72, 0x12], //                   jc end
  [0xbe, 0x00, 0x7e], //             mov si, 0x7e00
  [0xba, 0xf8, 0x03], //             mov dx, 0x3f8       the first serial port
  [0xfc], //                         cld
  [0xac], //                   next: lodsb
  [0x84, 0xc0], //                   test al, al
  [0x74, 0x03], //                   jz done
  [0xee], //                         out dx, al
  [0xeb, 0xf8], //                   jmp next
  [0xb0, 0x10], //             done: mov al, 0x10
  [0xe6, 0xf4], //                   out 0xf4, al
  [0xf4], //                    end: hlt
  [0xeb, 0xfd], //                   jmp end
];

const PACKET = [
  [0x10, 0x00], // size of the packet, reserved
  [0x01, 0x00], // one sector
  [0x00, 0x7e, 0x00, 0x00], // to 0000:7e00
  [0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00], // from sector 2048
];

const PACKET_OFFSET = 0x40;

/** The first sector. */
export function bootSector(): Buffer {
  const sector = Buffer.alloc(512);
  sector.set(CODE.flat(), 0);
  sector.set(PACKET.flat(), PACKET_OFFSET);
  sector.set([0x55, 0xaa], 510);
  return sector;
}

/** Sector TEXT_SECTOR with the text to print. @param text up to 511 bytes of ASCII */
export function textSector(text: string): Buffer {
  const sector = Buffer.alloc(512);
  sector.write(text, 'latin1');
  return sector;
}
