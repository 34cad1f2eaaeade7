using Sconce.Engine.Modules;

namespace Sconce.Engine.Tests.Modules;

public sealed class CallFailureTests
{
    [Theory]
    [InlineData("sizes do not match\nException raised from infer_size at ../aten/src/ATen/ExpandUtils.cpp:35 (most recent call first):\nframe #0: c10::Error", "sizes do not match")]
    [InlineData("sizes do not match frame #0: std::function<> + 0x12 (/srv/lib/libc10.so)", "sizes do not match")]
    [InlineData("bad axis\nframe #0: at::native (/srv/lib/libtorch_cpu.so)", "bad axis")]
    [InlineData("two\r\nlines\n(no backtrace available)", "two lines")]
    [InlineData("[enforce fail at alloc_cpu.cpp:80] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 16 bytes.", "DefaultCPUAllocator: can't allocate memory: you tried to allocate 16 bytes.")]
    [InlineData("\"x\" INTERNAL ASSERT FAILED at \"../aten/src/ATen/native/Pool.h:12\", please report", "\"x\" INTERNAL ASSERT FAILED at \"\", please report")]
    [InlineData("expected 1/2 of 3.5, got a.b/c", "expected 1/2 of 3.5, got a.b/c")]
    public void Cause_has_no_backtrace_and_no_path(string message, string expected) => Assert.Equal(expected, CallFailure.Cause(new InvalidOperationException(message)));
}
