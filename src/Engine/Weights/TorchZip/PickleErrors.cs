using System.Globalization;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>What is wrong with a pickle, and at which byte.</summary>
internal static class PickleErrors
{
    // Each opcode, with its name behind it.
    private const string Opcodes =
        "(MARK .STOP 0POP 1POP_MARK 2DUP FFLOAT IINT JBININT KBININT1 LLONG MBININT2 NNONE PPERSID QBINPERSID RREDUCE SSTRING TBINSTRING " +
        "USHORT_BINSTRING VUNICODE XBINUNICODE aAPPEND bBUILD cGLOBAL dDICT }EMPTY_DICT eAPPENDS gGET hBINGET iINST jLONG_BINGET lLIST " +
        "]EMPTY_LIST oOBJ pPUT qBINPUT rLONG_BINPUT sSETITEM tTUPLE )EMPTY_TUPLE uSETITEMS GBINFLOAT BBINBYTES CSHORT_BINBYTES \u0080PROTO " +
        "\u0081NEWOBJ \u0082EXT1 \u0083EXT2 \u0084EXT4 \u0085TUPLE1 \u0086TUPLE2 \u0087TUPLE3 \u0088NEWTRUE \u0089NEWFALSE \u008aLONG1 " +
        "\u008bLONG4 \u008cSHORT_BINUNICODE \u008dBINUNICODE8 \u008eBINBYTES8 \u008fEMPTY_SET \u0090ADDITEMS \u0091FROZENSET " +
        "\u0092NEWOBJ_EX \u0093STACK_GLOBAL \u0094MEMOIZE \u0095FRAME \u0096BYTEARRAY8 \u0097NEXT_BUFFER \u0098READONLY_BUFFER";

    private static readonly Dictionary<byte, string> OpcodeNames = Opcodes.Split(' ').ToDictionary(word => (byte)word[0], word => word[1..]);

    /// <summary>PyTorch's writer makes no such thing.</summary>
    /// <param name="at">Byte of the opcode.</param>
    /// <param name="what">What is wrong.</param>
    public static EngineException Malformed(int at, string what) => new(EngineError.InvalidArgument, "PICKLE_MALFORMED", $"the PyTorch file's data.pkl is malformed at byte {at:N0}: {what}");

    /// <summary>More than the reader holds.</summary>
    /// <param name="at">Byte of the opcode.</param>
    /// <param name="what">What, and what the limit is.</param>
    public static EngineException Limit(int at, string what) => TorchZipErrors.Limit($"at byte {at:N0} of data.pkl, {what}");

    /// <summary>Something that a pickle may do, and a state dict need not.</summary>
    /// <param name="at">Byte of the opcode.</param>
    /// <param name="what">What.</param>
    public static EngineException Refused(int at, string what) => new(EngineError.InvalidArgument, "PICKLE_REFUSED",
        $"the PyTorch file's data.pkl is refused at byte {at:N0}: {what}. A pickle is a program: only what a state dict needs, or torch.jit.save writes of a module, is taken; save module.state_dict(), and nothing else with it");

    /// <summary>An opcode that is not on the list.</summary>
    /// <param name="at">Its byte.</param>
    /// <param name="opcode">It.</param>
    public static EngineException Opcode(int at, byte opcode) =>
        Refused(at, OpcodeNames.TryGetValue(opcode, out var name) ? $"opcode {name}" : $"opcode 0x{opcode.ToString("x2", CultureInfo.InvariantCulture)}, which no pickle has");

    /// <summary>A global that is not on the list.</summary>
    /// <param name="at">Byte of the opcode.</param>
    /// <param name="name">Its dotted name.</param>
    public static EngineException Global(int at, string name) => Refused(at, $"global {EngineException.Quote(name)}");
}
