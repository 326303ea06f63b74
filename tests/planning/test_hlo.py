from softdimo_jax.planning.hlo import traffic

MODULE = '''
HloModule step, entry_computation_layout={()->f32[]}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (carry: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %carry = (s32[], f32[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%carry), index=0
  %x = f32[8,4]{1,0:T(8,128)} get-tuple-element(%carry), index=1
  %part = bf16[2,4]{1,0} fusion(%x), kind=kLoop, calls=%add
  %start = (bf16[2,4]{1,0}, bf16[8,4]{1,0}) all-gather-start(\
%part), dimensions={0}
  %whole = bf16[8,4]{1,0} all-gather-done(%start)
  %next = f32[8,4]{1,0} fusion(%whole, %x), kind=kLoop, calls=%add
  ROOT %out = (s32[], f32[8,4]{1,0}) tuple(%i, %next)
}

%condition (carry: (s32[], f32[8,4])) -> pred[] {
  %c = (s32[], f32[8,4]{1,0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main (p: f32[8,4]) -> f32[8,4] {
  %p = f32[8,4]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %first = (s32[], f32[8,4]{1,0}) tuple(%zero, %p)
  %loop = (s32[], f32[8,4]{1,0}) while(\
%first), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
  %last = f32[8,4]{1,0} get-tuple-element(%loop), index=1
  ROOT %all = f32[8,4]{1,0} all-reduce(\
%last), replica_groups={{0,1}}, to_apply=%add
}
'''  # fmt: skip


def test_loops_count_as_often_as_they_run():
  found = traffic(MODULE)
  assert found.collectives == {'all-gather': 3 * 64, 'all-reduce': 128}
  loop = (128 + 16) + (16 + 64 + 16) + (64 + 128 + 128)
  assert found.memory == 3 * loop + 2 * 128
