import { test } from 'vitest';
import { Command } from '/work/main/src/bridge/command.js';
import { ExtentMap } from '/work/main/src/bridge/extent-map.js';
const q=(o:bigint,e?:number[])=>{const c=new Command(0);c.type=7;c.offsetHi=Number(o>>32n);c.offsetLo=Number(o&0xffffffffn);c.extents=e;return c;};
test('slow?',()=>{
 const m=new ExtentMap(1,true,true);
 const many=Array.from({length:65536},(_, i)=>i%2===0?10:(i>>1)%2*3);
 for(const start of [2,1,0]){ const t=performance.now(); m.asked(); m.answered(q(BigInt(start)*327680n,many)); console.log('answer',performance.now()-t); }
 const t=performance.now(); for(let i=0;i<4096;i++){const c=q(BigInt(i*37));c.type=1;c.length=5;m.wrote(c);} m.at(0n); console.log('notes',performance.now()-t);
});
