namespace Sconce.Engine.Training.Optimizers;

/// <summary>Gathers what is wrong with arguments, so that the caller is told all at once.</summary>
/// <param name="field">Path of the arguments in the request, e.g. <c>args</c> or <c>groups[1].args</c>.</param>
internal sealed class OptionErrors(string field)
{
    private readonly List<FieldViolation> _violations = [];

    public void Add(string name, string description) => _violations.Add(new FieldViolation($"{field}.{name}", description));

    public void ThrowIfAny()
    {
        if (_violations.Count > 0)
        {
            throw EngineException.Invalid(_violations, "BAD_ARGUMENT");
        }
    }
}
