import sys,time; sys.path.insert(0,'/work/main/tests')
import test_docs as d
orig=d.Reader.command
def timed(self,line):
    t=time.perf_counter(); r=orig(self,line); print(f"{time.perf_counter()-t:6.1f}s {line}",file=open("/tmp/timing.txt","a"),flush=True); return r
d.Reader.command=timed
globals().update({k:v for k,v in vars(d).items() if k.startswith("test_all") or k=="clean"})
